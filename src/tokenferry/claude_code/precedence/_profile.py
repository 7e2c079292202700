"""A profile as the official SDK for Python reads it: what it would send, or where it would stop and why."""

from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any, Final

from msgspec import Struct

from tokenferry.claude_code.precedence._json import read_object
from tokenferry.claude_code.precedence._machine import Machine, Seen
from tokenferry.claude_code.precedence._values import Held, plain_url
from tokenferry.errors import TokenferryError
from tokenferry.secret import Fields
from tokenferry.stores.anthropic_profiles import ProfileFolder

DEFAULT_URL: Final = "https://api.anthropic.com"
TOKEN_PATH: Final = "/v1/oauth/token"  # noqa: S105  # a path
_LOCAL: Final = ("http://localhost", "http://127.0.0.1", "http://[::1]")
_MARGIN: Final = 30  # seconds of life below which a token is exchanged again
_LATEST: Final = 4_102_444_800
_MOST_ASSERTION: Final = 16 * 1024


class ProfileState(Struct, frozen=True):
    """The result of reading a profile.

    `stop` says why no client can be made with it, `fault` why every request fails. It is hollow if requests fail
    because it never had a token. `obtains` says how its token is obtained, if it isn't `held`.
    """

    where: str
    base_url: str | None = None
    is_missing: bool = False
    is_hollow: bool = False
    stop: str = ""
    fault: str = ""
    held: Held | None = None
    obtains: str = ""
    problems: tuple[str, ...] = ()
    refresh: str | None = None


class _Stop(Exception):  # noqa: N818  # where the SDK stops
    pass


class _Fault(Exception):  # noqa: N818  # what a request fails with
    pass


class _Hollow(_Fault):
    pass


def judge(machine: Machine, folder: ProfileFolder, name: str, *, is_strict: bool = True) -> ProfileState:
    """Read a profile's two files as the SDK does; if not `is_strict`, as Claude Code does, which checks less."""
    try:
        path = folder.config(name)
    except TokenferryError as fault:
        return ProfileState(str(folder.path), stop=str(fault))
    seen = machine.look(path)
    try:
        config, login = _load(machine, seen, is_strict=is_strict)
        base_url = _base_url(config, path)
        credentials = _credentials_path(login, folder, name)
    except (_Stop, TokenferryError) as stop:
        return ProfileState(str(path), is_missing=seen.kind == "absent", stop=str(stop))
    try:
        if login.get("type") == "user_oauth":
            return _user_login(machine, login, credentials, base_url, is_strict=is_strict)
        if login.get("type") == "oidc_federation":
            return _federation(machine, config, login, credentials, base_url)
    except _Fault as fault:
        return ProfileState(str(credentials), base_url, is_hollow=isinstance(fault, _Hollow), fault=str(fault))
    unknown = f"{path}: authentication.type must be user_oauth or oidc_federation"
    return ProfileState(str(path), base_url, is_hollow=True, fault=unknown)


def cleartext_fault(url: str) -> str:
    """Why the SDK wouldn't exchange a token at this address; empty if it would."""
    lowered = url.lower().rstrip("/")
    if lowered.startswith(("https://", *_LOCAL)):
        return ""
    return f"{plain_url(url)} is not an https URL, which the SDK requires for profiles and workload identity"


def identity_file_fault(seen: Seen) -> str:
    """Why no identity token can be read there; empty if one can."""
    if seen.kind == "absent":
        return f"there is no identity token file {seen.path}"
    if seen.kind != "file":
        return f"the identity token file {seen.path} can't be read: {seen.fault}"
    try:
        text = seen.content.decode("utf-8").strip()
    except UnicodeDecodeError:
        return f"the identity token file {seen.path} is not UTF-8"
    return identity_fault(text, f"the identity token file {seen.path}")


def identity_fault(text: str, what: str) -> str:
    """Why this is not an identity token; empty if it may be one."""
    if not text:
        return f"{what} is empty"
    if len(text.encode("utf-8", "surrogateescape")) > _MOST_ASSERTION:
        return f"{what} is larger than any identity token"
    return ""


def _load(machine: Machine, seen: Seen, *, is_strict: bool) -> tuple[Fields, Fields]:
    """The profile's configuration, filled up from variables, and its authentication block."""
    if seen.kind == "absent":
        raise _Stop(f"there is no {seen.path}")
    if seen.kind != "file":
        raise _Stop(f"{seen.path} can't be read: {seen.fault}")
    if machine.platform == "posix" and is_strict and seen.mode & 0o022:
        raise _Stop(f"{seen.path} could be written by others ({seen.mode:04o}); fix it with: chmod go-w '{seen.path}'")
    config = read_object(seen.content)
    if isinstance(config, str):
        raise _Stop(f"{seen.path} can't be used: {config}")
    login = config.get("authentication")
    if not isinstance(login, Fields):
        raise _Stop(f'{seen.path} has no object "authentication"')
    _fill(config, login, machine)
    return config, login


def _fill(config: Fields, login: Fields, machine: Machine) -> None:
    """Fill fields that the profile lacks from variables."""
    filled = [(config, "base_url", "ANTHROPIC_BASE_URL"), (config, "organization_id", "ANTHROPIC_ORGANIZATION_ID")]
    if login.get("type") == "oidc_federation":
        filled.append((login, "federation_rule_id", "ANTHROPIC_FEDERATION_RULE_ID"))
        path = machine.variable("ANTHROPIC_IDENTITY_TOKEN_FILE")
        if path and not login.get("identity_token"):
            login["identity_token"] = Fields(source="file", path=path)
    for fields, key, name in filled:
        if not fields.get(key) and (value := machine.variable(name)):
            fields[key] = value


def _base_url(config: Fields, path: Path) -> str | None:
    if not config.get("base_url"):
        return None
    url = str(config["base_url"]).rstrip("/")
    if fault := cleartext_fault(url):
        raise _Stop(f"{path}: {fault}")
    return url


def _credentials_path(login: Fields, folder: ProfileFolder, name: str) -> Path:
    named = login.get("credentials_path")
    try:
        return Path(str(named)).expanduser() if named else folder.credentials(name)
    except RuntimeError:
        raise _Stop(f"the profile's credentials_path {named!r} names a home directory that isn't there") from None


def _read_credentials(machine: Machine, path: Path, *, is_strict: bool = True) -> Fields:
    seen = machine.look(path)
    if seen.is_link:
        raise _Fault(f"{path} is a symbolic link, which the SDK doesn't follow; put the file itself there")
    if seen.kind == "absent":
        raise _Hollow(f"there is no {path}")
    if machine.platform == "posix" and seen.kind == "file" and seen.mode & 0o077:
        raise _Fault(f"{path} could be read by others ({seen.mode:04o}); fix it with: chmod 600 '{path}'")
    fields = read_object(seen.content) if seen.kind == "file" else seen.fault
    if isinstance(fields, str):
        raise _Fault(f"{path} can't be used: {fields}")
    if is_strict and fields.get("type") not in {None, "oauth_token"}:
        raise _Fault(f'{path}: "type" must be oauth_token')
    return fields


def _user_login(machine: Machine, login: Fields, path: Path, base_url: str | None, *, is_strict: bool) -> ProfileState:
    fields = _read_credentials(machine, path, is_strict=is_strict)
    is_refreshed = bool(login.get("client_id"))
    for key, is_needed in (("access_token", True), ("refresh_token", is_refreshed)):
        if is_needed and not fields.get(key):
            raise _Fault(f'{path} has no "{key}"' + (", though the profile has a client_id" if is_refreshed else ""))
    expires_at = _seconds(fields.get("expires_at"), path)
    refresh = Held.of(str(fields["refresh_token"])).digest if fields.get("refresh_token") else None
    problems = tuple(_problems(machine.now, path, expires_at, is_refreshed=is_refreshed))
    if is_refreshed and (expires_at is None or expires_at <= machine.now):
        obtains = f"refreshed at {plain_url(base_url or DEFAULT_URL)}{TOKEN_PATH}"
        return ProfileState(str(path), base_url, obtains=obtains, problems=problems, refresh=refresh)
    held = Held.of(str(fields["access_token"]), expires_at)
    return ProfileState(str(path), base_url, held=held, problems=problems, refresh=refresh)


def _problems(now: float, path: Path, expires_at: int | None, *, is_refreshed: bool) -> Iterator[str]:
    if is_refreshed:
        yield (
            "each process refreshes this login by itself, and a refresh token works once, so they log each other out; "
            "a profile made with tokenferry profile publish is only read"
        )
    if expires_at is not None and expires_at > _LATEST:
        yield f"{path}: expires_at is in milliseconds, so its token never expires for the SDKs; write seconds"
    if is_refreshed:
        return
    if expires_at is None:
        yield f"{path} has no expires_at, so programs keep its token for as long as they run"
    elif 0 < expires_at <= now:
        yield f"the token in {path} has expired, and is sent all the same"


def _federation(machine: Machine, config: Fields, login: Fields, path: Path, base_url: str | None) -> ProfileState:
    if not login.get("federation_rule_id") or not config.get("organization_id"):
        raise _Fault("the profile needs authentication.federation_rule_id and organization_id")
    token = login.get("identity_token")
    if not isinstance(token, Mapping) or token.get("source") != "file" or not token.get("path"):
        raise _Fault("the profile's identity_token must name a file, or ANTHROPIC_IDENTITY_TOKEN_FILE must")
    if machine.look(path).kind != "absent":
        cached = _read_credentials(machine, path)
        expires_at = _living(cached, machine.now, path)
        if expires_at is not None:
            return ProfileState(str(path), base_url, held=Held.of(str(cached["access_token"]), expires_at))
    file = Path(str(token["path"]))
    if fault := identity_file_fault(machine.look(machine.folder / file)):
        raise _Fault(fault)
    obtains = f"exchanged at {plain_url(base_url or DEFAULT_URL)}{TOKEN_PATH} for the identity token in {file}"
    return ProfileState(str(path), base_url, obtains=obtains)


def _living(fields: Fields, now: float, path: Path) -> int | None:
    """The expiry of an earlier exchange's token, if the SDK still uses it."""
    value: Any = fields.get("expires_at")
    try:
        is_living = bool(fields.get("access_token")) and value is not None and now < float(value) - _MARGIN
        return int(value) if is_living else None
    except (TypeError, ValueError):
        return None
    except OverflowError:
        raise _Fault(f'{path}: "expires_at" is not a number of seconds') from None


def _seconds(value: Any, path: Path) -> int | None:
    try:
        return None if value is None else int(value)
    except (TypeError, ValueError, OverflowError):
        raise _Fault(f'{path}: "expires_at" is not a number of seconds') from None
