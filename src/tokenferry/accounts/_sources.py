"""The places of other programs' credentials on this machine, and what they hold."""

from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import ClassVar, Final
from urllib.parse import urlsplit

from msgspec.structs import replace

from tokenferry.accounts._offer import Found
from tokenferry.errors import CorruptFile, NeedsLogin, TokenferryError, UsageError
from tokenferry.interchange import (
    VARIABLES,
    Entry,
    Format,
    ccm_login_providers,
    detect,
    parse,
    parse_ccm,
    parse_environment,
    parse_pool,
)
from tokenferry.secret import Concealing
from tokenferry.stores import read_private_file

_CLAUDE_MAX: Final = "claude-max"
HINTS: Final = dict(zip(VARIABLES, ("anthropic-key", "anthropic-token", "setup-token"), strict=True))


class Surroundings(Concealing, frozen=True):
    """What locates other programs' credentials. `person` is the home directory, `user` is $USER."""

    hidden: ClassVar = ("environ",)

    environ: Mapping[str, str]
    person: Path
    locks: Path
    user: str = ""

    @property
    def pool(self) -> Path:
        """The pool file, in Claude Code's folder. Raises `ConfigError`."""
        from tokenferry.claude_code import ClaudeCodeHome  # noqa: PLC0415  # brings subprocess

        return ClaudeCodeHome.from_environment(self.environ, self.person).path / "oauth_pool.json"

    @property
    def ccm(self) -> Path:
        """The folder of claude-code-mux."""
        return self.person / ".claude-code-mux"

    @property
    def ccm_tokens(self) -> Path:
        return self.ccm / "oauth_tokens.json"


def look_around(around: Surroundings) -> Iterator[Found]:
    """Yield everything on this machine, attachable logins first; for an unreadable place, the reason."""
    yield from attachable(around)
    for entry in parse_environment(around.environ):
        yield Found("env", entry.key, replace(entry, key=""), HINTS[entry.key])
    try:
        yield from look_into_own(around.pool, "pool", around)
    except TokenferryError as fault:
        yield _fault("pool", "oauth_pool.json", fault)
    yield from look_into_own(around.ccm_tokens, "ccm", around)
    yield from look_into_own(around.ccm / "config.toml", "ccm-config", around)


def attachable(around: Surroundings) -> Iterator[Found]:
    """Yield the logins of other programs that are used in place: Claude Code's, and SDK profiles."""
    yield from claude_code_login(around)
    yield from sdk_profiles(around)


def look_into(path: Path, form: Format | None, around: Surroundings) -> list[Found]:
    """Read one file; a program's own file is offered as that program's.

    Raises `UnsafeFile`, `CorruptFile`, `UsageError` when there is no such file or its format is unknown.
    """
    theirs = [found for found in attachable(around) if _is_same(found.where, path)]
    if theirs:
        return theirs
    try:
        return _read(path, form, around)
    except FileNotFoundError:
        raise UsageError(f"{path} not found; name an existing file, or - for stdin") from None


def look_through(raw: bytes, form: Format | None, around: Surroundings, where: str) -> list[Found]:
    """Read content that isn't in a file, as `HiddenBytes`. Raises `UsageError`."""
    try:
        form = form or detect(raw)
        entries = parse(raw, form, around.environ)
    except UsageError as fault:
        raise UsageError(f"what came from {where} can't be imported: {fault}") from None
    return [_found(form, where, entry, "imported" if form == "key-file" else form) for entry in entries]


def _read(path: Path, form: Format | None, around: Surroundings) -> list[Found]:
    raw = read_private_file(path, readable_by_others=form == "ccm-config")
    try:
        form = form or detect(raw)
        entries = parse(raw, form, around.environ)
    except UsageError as fault:
        raise CorruptFile(f"{path} can't be imported: {fault}; name its format with --format if it has one") from None
    return [_found(form, str(path), entry, path.stem) for entry in entries]


def look_into_own(path: Path, form: Format, around: Surroundings) -> Iterator[Found]:
    """Read a program's own file; yields nothing if it doesn't exist."""
    try:
        raw = read_private_file(path, readable_by_others=form == "ccm-config")
        entries = parse_pool(raw) if form == "pool" else parse_ccm(raw) if form == "ccm" else None
        if entries is None:
            entries = parse(raw, form, around.environ)
        providers = ccm_login_providers(_read_beside(path)) if form == "ccm" else {}
    except FileNotFoundError:
        return
    except (TokenferryError, OSError) as fault:
        yield _fault(form, str(path), fault)
        return
    for entry in entries:
        yield _found(form, str(path), replace(entry, provider=providers.get(entry.key, entry.provider)), path.stem)


def _read_beside(path: Path) -> bytes:
    """Read the configuration beside a file of logins; empty if it doesn't exist or can't be read."""
    try:
        return read_private_file(path.with_name("config.toml"), readable_by_others=True)
    except (TokenferryError, OSError):
        return b""


def _found(form: Format, where: str, entry: Entry, hint: str) -> Found:
    email = getattr(entry.credential, "email", None)
    if form == "env":
        return Found(form, where, entry, HINTS.get(entry.key, hint))
    return Found(form, where, entry, email or entry.key or hint)


def _fault(source: str, where: str, fault: Exception) -> Found:
    text = str(fault).removeprefix(where).lstrip(": ")
    return Found(source, where, Entry("", fault=text), source)


def claude_code_login(around: Surroundings) -> Iterator[Found]:
    from tokenferry.claude_code import (  # noqa: PLC0415  # see above
        ClaudeCodeHome,
        ClaudeCodeStore,
        claude_code_account,
    )

    name = "claude-code"
    where = "CLAUDE_CONFIG_DIR"
    try:
        home = ClaudeCodeHome.from_environment(around.environ, around.person)
        where = str(home.credentials)
        account = claude_code_account(name, _CLAUDE_MAX, home)
        store = ClaudeCodeStore.on_this_platform(account, home, around.locks, user=around.user)
        status = store.status()
        where = status.where
        if status.state in {"absent", "section-missing"}:
            return
        credential = store.read(name).credential
    except NeedsLogin as fault:
        yield _fault("claude-code", where, fault)
        return
    except TokenferryError as fault:
        found = _fault("claude-code", where, fault)
        yield replace(found, entry=replace(found.entry, provider=_CLAUDE_MAX), is_unread=True)
        return
    yield Found("claude-code", where, Entry("", credential, provider=_CLAUDE_MAX), name, account)


def sdk_profiles(around: Surroundings) -> Iterator[Found]:
    from tokenferry.stores.anthropic_profiles import (  # noqa: PLC0415  # few have one
        SDK_URL,
        AnthropicProfileStore,
        ProfileFolder,
        profile_account,
    )

    try:
        folder = ProfileFolder.from_environment(around.environ, around.person)
    except TokenferryError as fault:
        yield _fault("profile", "ANTHROPIC_CONFIG_DIR", fault)
        return
    for profile in folder.profiles():
        where = str(folder.path / "credentials" / f"{profile}.json")
        account = profile_account(profile, "anthropic", folder, profile, created_at=0)
        store = AnthropicProfileStore.of(account, around.locks)
        try:
            config = store.config()
            document = store.read(profile)
        except TokenferryError as fault:
            yield _fault("profile", where, fault)
            continue
        if urlsplit(config.base_url or SDK_URL).hostname != urlsplit(SDK_URL).hostname:
            account = replace(document.account, provider="")
            yield Found("profile", where, Entry(profile, document.credential), profile, account)
            continue
        provider = "console" if config.client_id or config.type == "oidc_federation" else "anthropic"
        account = replace(document.account, provider=provider)
        yield Found("profile", where, Entry(profile, document.credential, provider=provider), profile, account)


def _is_same(where: str, path: Path) -> bool:
    try:
        return Path(where).resolve() == path.resolve()
    except (OSError, RuntimeError):
        return False
