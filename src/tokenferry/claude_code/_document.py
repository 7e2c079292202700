"""Claude Code's credential document as values, without I/O."""

import json
from hashlib import sha256
from typing import Any, Final, Literal, TypeAlias

from msgspec import Struct, field
from msgspec.structs import replace

from tokenferry.credentials import OAuthToken, epoch_seconds
from tokenferry.errors import CorruptFile, NeedsLogin, TokenferryError, UsageError
from tokenferry.secret import Fields, Secret, parse_object
from tokenferry.stores import HiddenBytes

LoginState: TypeAlias = Literal[
    "logged-in", "no-refresh-token", "logged-out", "section-missing", "absent", "unparsable"
]

LOGIN_COMMAND: Final = "claude /login"
_SECTION: Final = "claudeAiOauth"
_TEXTS: Final = {
    "subscriptionType": "subscription_type",
    "rateLimitTier": "rate_limit_tier",
    "accountUuid": "account_id",
    "organizationUuid": "organization_id",
}
_TIMES: Final = {"expiresAt": "expires_at", "refreshTokenExpiresAt": "refresh_expires_at"}
_KNOWN: Final = ("accessToken", "refreshToken", "scopes", *_TIMES, *_TEXTS)
_BROUGHT: Final = "claude_code"
_OF_A_GRANT: Final = ("email", "obtained_at", "lifetime", "source")  # this document has no place for them
_SECONDS_BELOW: Final = 10_000_000_000
_GENERATION_DIGITS: Final = 12


class ClaudeCodeLogin(Struct, frozen=True):
    """What the document says. There is a token when `state` is logged-in or no-refresh-token, and only then."""

    state: LoginState
    token: OAuthToken | None = None
    fields: Fields = field(default_factory=Fields)
    fault: str = ""

    @property
    def generation(self) -> int | None:
        """A number that changes whenever one of the two tokens changes; None without a token."""
        return None if self.token is None else int(digest(self.token)[:_GENERATION_DIGITS], 16)

    def error(self, where: str) -> TokenferryError | None:
        """Why this login can't be used; None for a complete one."""
        match self.state:
            case "logged-in":
                return None
            case "absent":
                return NeedsLogin(f"{where} not found: Claude Code is not logged in here; log in with: {LOGIN_COMMAND}")
            case "section-missing":
                return NeedsLogin(f"{where}: section {_SECTION} missing; log in with: {LOGIN_COMMAND}")
            case "logged-out":
                return NeedsLogin(
                    f"{where}: Claude Code was logged out, by you or by a failed refresh; log in again with: "
                    f"{LOGIN_COMMAND}"
                )
            case "no-refresh-token":
                return NeedsLogin(
                    f"{where}: refresh token absent, so the access token can't be renewed; log in again with: "
                    f"{LOGIN_COMMAND}"
                )
            case "unparsable":
                return CorruptFile(
                    f"{where} can't be understood: {self.fault}; restore it from a backup, or log in again with: "
                    f"{LOGIN_COMMAND}"
                )


def digest(token: OAuthToken) -> str:
    """The sha256 of both tokens, in hex: what a compare-and-swap compares."""
    tokens = sha256()
    for secret in (token.refresh, token.secret):
        tokens.update(bytes.fromhex(secret.sha256) if secret else bytes(32))
    return tokens.hexdigest()


def parse(raw: bytes | None) -> ClaudeCodeLogin:
    """Read the document; None means a missing one. Raises nothing: every fault is a state."""
    if raw is None:
        return ClaudeCodeLogin("absent")
    fields = parse_object(raw)
    del raw  # a traceback shows the locals of this frame
    return ClaudeCodeLogin("unparsable", fault="it isn't a JSON object") if fields is None else _login(fields)


def _login(fields: Fields) -> ClaudeCodeLogin:
    section = fields.get(_SECTION)
    if section is None:
        return ClaudeCodeLogin("section-missing", fields=fields)
    if not isinstance(section, Fields):
        return ClaudeCodeLogin("unparsable", fields=fields, fault=f'"{_SECTION}" isn\'t an object')
    try:
        token = _token(section)
    except UsageError as fault:
        return ClaudeCodeLogin("unparsable", fields=fields, fault=str(fault))
    if token is None:
        return ClaudeCodeLogin("logged-out", fields=fields)
    return ClaudeCodeLogin("logged-in" if token.refresh else "no-refresh-token", token, fields)


def merge(login: ClaudeCodeLogin, token: OAuthToken) -> bytes:
    """The document with this token in it and all other fields unchanged; its secrets are in clear text.

    Raises `UsageError` for an unparsable document and for a token that lacks the refresh token the document has.
    """
    if login.state == "unparsable":
        raise UsageError("a document that can't be understood is never written over")
    if token.refresh is None and login.token is not None and login.token.refresh is not None:
        raise UsageError("fewer tokens than Claude Code's login has are never written over it")
    section = Fields(login.fields.get(_SECTION) or {})
    found = _plain(section)
    section["accessToken"] = token.secret.reveal()
    if token.refresh is not None:
        section["refreshToken"] = token.refresh.reveal()
    for key, value in _plain_of(token).items():
        if value == found[key] and not (value and key in _TIMES and section[key] <= _SECONDS_BELOW):
            continue  # unchanged: to the millisecond, and null where it is null
        if value is None:
            section.pop(key)
        else:
            section[key] = value * 1000 if key in _TIMES else value
    fields = Fields(login.fields)
    fields[_SECTION] = section
    return HiddenBytes(json.dumps(fields, separators=(",", ":")).encode("ascii"))


def put_in(login: ClaudeCodeLogin, token: OAuthToken) -> bytes:
    """The document with another account's login instead of its present one; its secrets are in clear text.

    Everything outside the section is unchanged. The section has the fields that `taken_out` saved with this login,
    and none of the previous login. Raises `UsageError` for an unparsable document.
    """
    if login.state == "unparsable":
        raise UsageError("a document that can't be understood is never written over")
    section = Fields(accessToken=token.secret.reveal(), refreshToken=token.refresh.reveal() if token.refresh else "")
    plain = {key: value for key, value in _plain_of(token).items() if value is not None}
    section |= {key: value * 1000 if key in _TIMES else value for key, value in plain.items()}
    brought = token.unknown.get(_BROUGHT)
    section |= Fields(brought if isinstance(brought, dict) else {}).without(*_KNOWN)
    fields = Fields(login.fields)
    fields[_SECTION] = section
    return HiddenBytes(json.dumps(fields, separators=(",", ":")).encode("ascii"))


def taken_out(token: OAuthToken, known: OAuthToken | None = None) -> OAuthToken:
    """This document's login as one for Tokenferry's document; `known` is what that held of the same account so far.

    Fields that only Claude Code knows are saved under one name, and `put_in` restores them.
    """
    unknown = Fields() if known is None else known.unknown.without(_BROUGHT)
    if token.unknown:
        unknown[_BROUGHT] = Fields(token.unknown)
    token = replace(token, unknown=unknown)
    if known is None:
        return replace(token, source=token.source or "claude-code")
    if digest(token) == digest(known):
        of_the_grant = {name: getattr(known, name) for name in _OF_A_GRANT}
    else:
        of_the_grant = {"email": token.email or known.email, "source": token.source or "claude-code"}
    return replace(
        token,
        account_id=token.account_id or known.account_id,
        organization_id=token.organization_id or known.organization_id,
        **of_the_grant,
    )


def _token(section: Fields) -> OAuthToken | None:
    """The token set; None for a logged-out stub. Raises `UsageError`, naming the field and never its value."""
    access, refresh = _secret(section, "accessToken"), _secret(section, "refreshToken")
    if access is None and refresh is None:
        return None
    if access is None:
        raise UsageError('"accessToken" is blank, though "refreshToken" is not')
    try:
        expires_at = None if section.get("expiresAt") is None else epoch_seconds(section["expiresAt"], foreign=True)
    except UsageError as fault:
        raise UsageError(f'"expiresAt": {fault}') from None
    plain = _plain(section)
    return OAuthToken(
        access,
        refresh,
        expires_at=expires_at,
        scopes=tuple(plain["scopes"] or ()),
        refresh_expires_at=plain["refreshTokenExpiresAt"],
        **{name: plain[key] for key, name in _TEXTS.items()},
        email=_email(section),
        unknown=section.without(*_KNOWN),
    )


def _email(section: Fields) -> str | None:
    account = section.get("account")
    email = account.get("emailAddress") if isinstance(account, Fields) else None
    return email if isinstance(email, str) and email else None


def _secret(section: Fields, key: str) -> Secret | None:
    """A token; None for a blank one, which Claude Code writes where there is no token."""
    if section.get(key) is None:
        return None
    if not isinstance(section[key], str):
        raise UsageError(f'"{key}" is not a string')
    try:
        return Secret(section[key].strip()) if section[key].strip() else None
    except ValueError as fault:
        raise UsageError(f'"{key}": {fault}') from None


def _plain(section: Fields) -> dict[str, Any]:
    """The section's other fields, times in seconds; None for a field that is absent or of another type."""
    plain: dict[str, Any] = {"scopes": _scopes(section.get("scopes"))}
    plain |= {key: section[key] if isinstance(section.get(key), str) else None for key in _TEXTS}
    return plain | {key: _time(section.get(key)) for key in _TIMES}


def _plain_of(token: OAuthToken) -> dict[str, Any]:
    plain: dict[str, Any] = {"scopes": list(token.scopes) or None}
    return plain | {key: getattr(token, name) for key, name in (_TEXTS | _TIMES).items()}


def _scopes(value: object) -> list[str] | None:
    if isinstance(value, str):
        value = value.split()
    is_list = isinstance(value, list) and value and all(isinstance(scope, str) for scope in value)
    return value if is_list else None  # type: ignore[return-value]  # seen to be a list of strings


def _time(value: object) -> int | None:
    try:
        return epoch_seconds(value, foreign=True)
    except UsageError:
        return None
