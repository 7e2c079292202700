"""Changes to config.toml as `config set` and the dashboard make them: propose, check, write, undo."""

import contextlib
import json
import re
from collections.abc import Callable, Collection, Iterable, Sequence
from difflib import unified_diff
from hashlib import sha256
from pathlib import Path
from typing import Any, Final

from msgspec import Struct

from tokenferry.audit import note_change
from tokenferry.broker import Broker, settle_default_provider
from tokenferry.config import (
    HIDDEN,
    Config,
    Effective,
    Examined,
    changed,
    check_writable,
    examine,
    examine_content,
    read_content,
    write_content,
)
from tokenferry.errors import ConfigError, Conflict, PolicyRefused, TokenferryError
from tokenferry.gateway import check_host, check_upstreams
from tokenferry.readiness import misnamed
from tokenferry.secret import parse_object
from tokenferry.settings import Home
from tokenferry.state import ClientKey
from tokenferry.stores import read_private_file, replace_private_file

__all__ = [
    "ConfigChange",
    "SettingNow",
    "SettingsNow",
    "check_use",
    "command_for",
    "propose_change",
    "protected_by",
    "settings_now",
    "undo_of",
    "write_change",
    "write_undo",
]

_COMMAND_SECTIONS: Final = frozenset(("policy", "plugins", "store"))
_COMMAND_KEYS: Final = frozenset(
    ("command", "allow_remote", "trusted_proxies", "user_header", "admins", "ca_file", "api_key", "google_credentials")
)
_ADDRESS: Final = re.compile(r"url|uri|issuer|endpoint|redirect|provider_type|region|resource|project_id|location")
"""In the names of the keys that decide where a provider's credentials are sent."""


class ConfigChange(Struct, frozen=True):
    """The next content of config.toml, and the present one (None: there is no file)."""

    path: Path
    names: tuple[str, ...]
    before: bytes | None
    content: bytes
    old: Examined
    new: Examined

    @property
    def is_empty(self) -> bool:
        return self.content == (self.before or b"")

    @property
    def digest(self) -> str:
        """The sha256 of the present content, in hexadecimal."""
        return sha256(self.before or b"").hexdigest()

    def diff(self) -> list[str]:
        """The lines of a unified diff."""
        before, after = (self.before or b"").decode("utf-8"), self.content.decode("utf-8")
        return [*unified_diff(before.splitlines(), after.splitlines(), lineterm="")][2:]


def propose_change(path: Path, given: Sequence[tuple[str, str | None]]) -> ConfigChange:
    """Propose a change that sets settings, or removes them for None: all or none. Nothing is written.

    Raises `ConfigError` for a fault that the change would add, `PolicyRefused` for a statement that a person must make
    on a terminal, `UnknownName`, `StorageFailed` if the file can't be written.
    """
    check_writable(path)
    before = read_content(path)
    content = before or b""
    old = examine_content(content, path)
    for name, value in given:
        content = changed(content, path, name, value)
    new = examine_content(content, path)
    if new.config.policy.subscriptions == "own-use" != old.config.policy.subscriptions:
        raise PolicyRefused(
            '"own-use" is a statement that a person makes on a terminal, with: tokenferry policy set own-use'
        )
    former = {fault.text for fault in old.faults}
    if faults := tuple(str(fault) for fault in new.faults if fault.text not in former):
        raise ConfigError(f"nothing was written, because {path} would be invalid:", faults)
    return ConfigChange(path, tuple(name for name, _ in given), before, content, old, new)


def write_change(home: Home, change: ConfigChange, *, by: str | None = None) -> None:
    """Write the change. Raises `Conflict` if the file has changed since. `undo_of` reverts it."""
    if change.is_empty:
        return
    if not change.old.faults:
        settle_default_provider(home, change.old.config)
    write_content(change.path, change.content, change.before, home.locks)
    note_change(home, "config.set", ",".join(change.names), client=by)
    if change.path == home.config:
        with contextlib.suppress(TokenferryError):  # the change is made, even if it can't be undone
            _record_undo(home, change)


def check_use(
    home: Home, config: Config, keys: Iterable[ClientKey] | None, *, warn: Callable[[str], None] = lambda _: None
) -> None:
    """Raise `ConfigError` for what `serve` would refuse, and for names that don't exist in the home."""
    check_host(config.server)
    check_upstreams(config.providers.values(), config.server)
    try:
        found = [one for one in misnamed(config, Broker.from_home(home, config), keys) if one.is_configured]
    except TokenferryError as fault:
        warn(str(fault))
        return
    if found:
        problems = tuple(f"{one.where} {one.what}" for one in found)
        raise ConfigError(f"{config.path} names things that don't exist:", problems)


def protected_by(change: ConfigChange, providers_in_use: Collection[str]) -> str | None:
    """Return the first setting in a change that no web page may change, or None."""
    old = {one.path: one for one in change.old.effective()}
    new = {one.path: one for one in change.new.effective()}
    for path in sorted(old.keys() | new.keys()):
        before, after = old.get(path), new.get(path)
        if (before and before.value) == (after and after.value):
            continue
        if any(one is not None and command_for(one, providers_in_use) is not None for one in (before, after)):
            return path
    return None


class SettingNow(Struct, frozen=True):
    """One setting as it is now."""

    path: str
    sentence: str
    value: Any
    source: str
    """`config.toml`, `statement`, `built-in` or `default`."""
    default: Any = None
    line: int | None = None
    kind: str = "text"
    choices: tuple[str, ...] = ()
    command: str | None = None
    """The command that changes it, where no web page may."""
    fingerprint: str | None = None
    """Of the secret that it leads to."""

    @property
    def is_hidden(self) -> bool:
        """Whether its value may hold a secret and is not shown."""
        return bool(self.value == HIDDEN)

    @property
    def section(self) -> str:
        """The section it is listed under: `server`, `providers.NAME`."""
        return self.path.rpartition(".")[0]

    @property
    def is_set(self) -> bool:
        return self.source in {"config.toml", "statement"}

    @property
    def is_plain(self) -> bool:
        """Whether its section occurs only once."""
        return self.path.count(".") == 1


def _may_hold_secret(setting: Effective) -> bool:
    """Whether the value must not be shown: also a path in `api_key`, since a key may have been put there by mistake."""
    is_key = setting.key.name == "api_key" and bool(setting.value) and not str(setting.value).startswith("$")
    return is_key or bool(setting.hidden)


class SettingsNow(Struct, frozen=True):
    """Every setting, and the file's faults."""

    path: Path
    exists: bool
    settings: tuple[SettingNow, ...]
    problems: tuple[str, ...]
    warnings: tuple[str, ...]
    text: str


def settings_now(home: Home, providers_in_use: Collection[str]) -> SettingsNow:
    """Read every setting, set or default. Raises `ConfigError` if the file is not valid TOML, `UnsafeFile`."""
    examined = examine(home.config, statement=home.statement)
    settings = tuple(
        SettingNow(
            one.path,
            one.key.sentence,
            HIDDEN if _may_hold_secret(one) else one.value,
            one.source,
            one.key.toml_value(one.key.default),
            one.line,
            one.key.kind,
            one.key.choices,
            command_for(one, providers_in_use),
            one.fingerprint,
        )
        for one in examined.effective()
        if one.source != "built-in"
    )
    warnings = tuple(examined.config.warnings)
    return SettingsNow(
        examined.path, examined.exists, settings, examined.problems, warnings, examined.content.decode("utf-8")
    )


def command_for(setting: Effective, providers_in_use: Iterable[str]) -> str | None:
    """Return the command that changes a setting, if no web page may change it; else None.

    Such settings decide what runs on the machine, which files are read, who has access, and where credentials are
    sent: commands, file paths, plugins, policy, trusted proxies, and the addresses of providers that have accounts.
    """
    section, *rest = setting.path.split(".")
    key = setting.key
    is_address = key.kind == "url" or bool(_ADDRESS.search(key.name)) or bool({"oauth", "token_exchange"} & {*rest})
    is_in_use = section == "providers" and any(".".join(rest).startswith(f"{name}.") for name in providers_in_use)
    is_file = key.kind == "path" or key.name.endswith("file")
    if section == "policy":
        return "tokenferry policy set own-use"
    if section in _COMMAND_SECTIONS or key.name in _COMMAND_KEYS or is_file or (is_address and is_in_use):
        return f"tokenferry config set {setting.path} VALUE"
    return None


# -- undo


def undo_of(home: Home) -> ConfigChange | None:
    """Return the change that undoes the last one written; None if the file has changed since."""
    try:
        record: dict[str, Any] = parse_object(read_private_file(home.config_undo)) or {}
        content = read_content(home.config) or b""
    except (FileNotFoundError, TokenferryError):
        return None
    former = record.get("content")
    if not isinstance(former, str) or record.get("written") != sha256(content).hexdigest():
        return None
    before = former.encode("utf-8")
    try:
        old, new = examine_content(content, home.config), examine_content(before, home.config)
    except ConfigError:
        return None
    return ConfigChange(home.config, ("undo",), content, before, old, new)


def write_undo(home: Home, digest: str, *, by: str | None = None) -> ConfigChange:
    """Undo the last change, if the file's content has this digest. Raises `Conflict`."""
    change = undo_of(home)
    if change is None or change.digest != digest:
        raise Conflict(f"{home.config} was changed since; nothing was undone")
    write_change(home, change, by=by)
    return change


def _record_undo(home: Home, change: ConfigChange) -> None:
    record = {"written": sha256(change.content).hexdigest(), "content": (change.before or b"").decode("utf-8")}
    replace_private_file(home.config_undo, json.dumps(record).encode("ascii"))
