"""Places on this machine that may hold a key or login. Finding them opens no file and reads no secret."""

import os
import sys
from collections.abc import Iterable, Iterator, Mapping
from pathlib import Path
from typing import Any, Final

from msgspec import Struct
from msgspec.structs import replace

from tokenferry.accounts._login import ORIGIN
from tokenferry.accounts._offer import Action, Found
from tokenferry.accounts._sources import (
    HINTS,
    Surroundings,
    attachable,
    claude_code_login,
    look_into,
    look_into_own,
    sdk_profiles,
)
from tokenferry.errors import TokenferryError
from tokenferry.interchange import VARIABLES, Format, parse_environment
from tokenferry.providers import presets
from tokenferry.stores import Account, Document
from tokenferry.stores.anthropic_profiles import PROFILE_LABEL, ProfileFolder

_CLAUDE_MAX: Final = "claude-max"
_LATER: Final = "the gateway does not serve this vendor's format yet"
_OTHER_VARIABLES: Final = ("GEMINI_API_KEY", "GOOGLE_API_KEY")
# Logins that tokenferry can't use: the tool, its file below the home directory (or below the variable's folder), and
# what to do instead. Sources: https://developers.openai.com/codex/auth,
# https://opencode.ai/v1/docs/providers, and the README files of the others.
_FOREIGN: Final = (
    ("Codex", "CODEX_HOME", ".codex", "auth.json", f"it stays Codex's; {_LATER}"),
    ("Gemini CLI", "", ".gemini", "oauth_creds.json", f"it stays Gemini CLI's; {_LATER}"),
    (
        "OpenCode",
        "XDG_DATA_HOME",
        ".local/share",
        "opencode/auth.json",
        "it stays OpenCode's; add the keys that you want to share with: tokenferry provider add",
    ),
    (
        "better-ccflare",
        "XDG_CONFIG_HOME",
        ".config",
        "better-ccflare/better-ccflare.db",
        "its database is not read; log in once more: tokenferry login",
    ),
    (
        "claude-code-router",
        "",
        ".claude-code-router",
        "config.json",
        "it is not read; add its keys with: tokenferry provider add",
    ),
)


class Presence(Struct, frozen=True):
    """Something that may hold a key or login. `where` is a variable or path, `means` says what importing it would do.

    `action` is the strongest possible one: `take-over` for a possible token family. `stops` is the program that must
    then stop using the login. `accounts` were imported from here before.
    """

    source: str
    title: str
    where: str
    action: Action
    means: str
    stops: str = ""
    form: Format | None = None
    """The format of a program's own file."""
    accounts: tuple[str, ...] = ()

    def to_json(self) -> dict[str, Any]:
        return {
            "source": self.source,
            "title": self.title,
            "where": self.where,
            "action": self.action,
            "means": self.means,
            "stops": self.stops or None,
            "accounts": list(self.accounts),
        }


def find_presences(
    around: Surroundings, documents: Iterable[Document], attached: Iterable[Account]
) -> Iterator[Presence]:
    """Yield everything present, with the accounts that came from it, stored or attached."""
    known: dict[str, tuple[str, ...]] = {}
    places = [(_origin_of(document), document.account.name) for document in documents]
    for where, name in (*places, *((_place_of(account), account.name) for account in attached)):
        known[where] = (*known.get(where, ()), name)
    for presence in _presences(around):
        yield replace(presence, accounts=known.get(presence.where, ()))


def read_presence(presence: Presence, around: Surroundings) -> tuple[list[Found], list[Found]]:
    """Open it after its owner has agreed; return what it holds, and the logins that are used in place.

    The latter are read only if a copy of one could be taken over. Raises `UnsafeFile`, `CorruptFile`, `UsageError`.
    """
    if presence.source == "env":
        entries = [one for one in parse_environment(around.environ) if one.key == presence.where]
        return [Found("env", one.key, replace(one, key=""), HINTS[one.key]) for one in entries], []
    if presence.source == "claude-code":
        return list(claude_code_login(around)), []
    if presence.source == "profile":
        return [found for found in sdk_profiles(around) if found.where == presence.where], []
    beside = list(attachable(around)) if presence.action == "take-over" else []
    path = Path(presence.where)
    if presence.form is not None:
        return list(look_into_own(path, presence.form, around)), beside
    found = look_into(path, None, around)
    return [replace(one, entry=replace(one.entry, provider=one.entry.provider or _CLAUDE_MAX)) for one in found], beside


def _presences(around: Surroundings) -> Iterator[Presence]:
    yield from _logins_in_place(around)
    yield from _variables(around)
    yield from _files(around)


def _logins_in_place(around: Surroundings) -> Iterator[Presence]:
    from tokenferry.claude_code import ClaudeCodeHome  # noqa: PLC0415  # brings subprocess

    try:
        home = ClaudeCodeHome.from_environment(around.environ, around.person)
    except TokenferryError as fault:
        yield Presence("claude-code", "Claude Code's login", "CLAUDE_CONFIG_DIR", "none", str(fault))
    else:
        in_keychain = sys.platform == "darwin" and home.path.is_dir()
        if in_keychain or os.path.lexists(home.credentials):
            means = "attach it where it is; it stays Claude Code's"
            yield Presence("claude-code", "Claude Code's login", str(home.credentials), "attach", means)
    try:
        folder = ProfileFolder.from_environment(around.environ, around.person)
    except TokenferryError as fault:
        yield Presence("profile", "SDK profiles", "ANTHROPIC_CONFIG_DIR", "none", str(fault))
        return
    for profile in folder.profiles():
        means = "attach it where it is; tokenferry never renews it"
        where = str(folder.path / "credentials" / f"{profile}.json")
        yield Presence("profile", f"SDK profile {profile}", where, "attach", means)


def _variables(around: Surroundings) -> Iterator[Presence]:
    for name in VARIABLES:
        if around.environ.get(name):
            what = "key" if name.endswith("KEY") else "token"
            yield Presence("env", f"Anthropic {what}", name, "store", f"store a copy of the {what}")
    for preset in presets().values():
        if preset.env_var is not None and around.environ.get(preset.env_var):
            means = f"add it with: printenv {preset.env_var} | tokenferry provider add {preset.name}"
            yield Presence("env", f"{preset.title} key", preset.env_var, "none", means)
    for name in _OTHER_VARIABLES:
        if around.environ.get(name):
            yield Presence("env", "API key", name, "none", f"not used: {_LATER}")


def _files(around: Surroundings) -> Iterator[Presence]:
    reading = "look into it, and take over a login by its name"
    try:
        if os.path.lexists(around.pool):
            stops = "every program that uses this pool file"
            yield Presence("pool", "pool file of logins", str(around.pool), "take-over", reading, stops, "pool")
    except TokenferryError:
        pass  # reported with Claude Code's login
    if os.path.lexists(around.ccm_tokens):
        where = str(around.ccm_tokens)
        yield Presence("ccm", "claude-code-mux's logins", where, "take-over", reading, "claude-code-mux", "ccm")
    if os.path.lexists(around.ccm / "config.toml"):
        where = str(around.ccm / "config.toml")
        means = "store a copy of each key in it"
        yield Presence("ccm-config", "claude-code-mux's keys", where, "store", means, form="ccm-config")
    folder = around.person / ".cli-proxy-api"  # https://help.router-for.me/configuration/options, `auth-dir`
    for path in _listed(folder):
        if path.name.startswith("claude"):
            yield Presence("cliproxyapi", "CLIProxyAPI's login", str(path), "take-over", reading, "CLIProxyAPI")
        else:
            means = f"it stays CLIProxyAPI's; {_LATER}"
            yield Presence("cliproxyapi", "CLIProxyAPI's login", str(path), "none", means)
    for tool, variable, place, name, means in _FOREIGN:
        path = Path(around.environ.get(variable) or around.person / place) / name
        if os.path.lexists(path):
            yield Presence(tool.casefold().replace(" ", "-"), f"{tool}'s logins", str(path), "none", means)


def _listed(folder: Path) -> list[Path]:
    try:
        return sorted(folder.glob("[!.]*.json"))
    except OSError:
        return []


def _origin_of(document: Document) -> str:
    """Return where an account was imported from; empty if it was not."""
    origin = document.unknown.get(ORIGIN)
    return str(origin.get("where", "")) if isinstance(origin, Mapping) else ""


def _place_of(account: Account) -> str:
    """Return where an attached account's credential is, in the form of `Presence.where`."""
    folder = Path(account.labels.get("config_dir", ""))
    if account.store == "claude-code":
        return str(folder / ".credentials.json")
    return str(folder / "credentials" / f"{account.labels.get(PROFILE_LABEL)}.json")
