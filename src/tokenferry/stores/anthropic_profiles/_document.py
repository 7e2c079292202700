"""The two files of a profile as values, without I/O."""

import json
from typing import Any, Final
from urllib.parse import urlsplit

from msgspec import Struct

from tokenferry.credentials import OAuthToken, epoch_seconds
from tokenferry.errors import CorruptFile, UsageError
from tokenferry.secret import Fields, HiddenBytes, Secret, parse_object
from tokenferry.stores._document import Owner

SDK_URL: Final = "https://api.anthropic.com"
"""The host that the SDKs call if a profile names none."""

_TYPES: Final = ("user_oauth", "oidc_federation")
_CREDENTIALS_TYPE: Final = "oauth_token"
_VERSION: Final = "1.0"
_LOOPBACK: Final = ("http://localhost", "http://127.0.0.1", "http://[::1]")
_MOST_DIGITS: Final = 20
_KNOWN: Final = ("version", "type", "access_token", "refresh_token", "expires_at", "scope")


class ProfileConfig(Struct, frozen=True):
    """How a profile authenticates. `credentials_path` is as written, with `~`."""

    type: str
    client_id: str | None = None
    base_url: str | None = None
    organization_id: str | None = None
    workspace_id: str | None = None
    credentials_path: str | None = None

    @property
    def owner(self) -> Owner:
        """The program that renews its token: `ant` and the SDKs for clients they know, else the file's writer."""
        return "ant" if self.type == "user_oauth" and self.client_id else "external"


def parse_config(raw: bytes, where: str) -> ProfileConfig:
    """Read `configs/PROFILE.json` as the SDKs do. Raises `CorruptFile` for what they refuse."""
    fields = parse_object(raw)
    fault = "it isn't a JSON object"
    if fields is not None:
        authentication = fields.get("authentication")
        if isinstance(authentication, Fields):
            try:
                return _config(fields, authentication)
            except UsageError as problem:
                fault = str(problem)
        else:
            fault = 'the object "authentication" is missing'
    raise CorruptFile(f"{where} can't be understood: {fault}; fix it, or create the profile again")


def _config(fields: Fields, authentication: Fields) -> ProfileConfig:
    kind = authentication.get("type")
    if kind not in _TYPES:
        raise UsageError(f'"authentication.type" must be one of {", ".join(_TYPES)}')
    base_url = _text(fields, "base_url")
    if base_url is not None:
        base_url = base_url.rstrip("/")
        if not base_url.lower().startswith(("https://", *_LOOPBACK)) or not _names_a_host(base_url):
            raise UsageError('"base_url" must be an https:// URL; plain http is for this machine alone')
    return ProfileConfig(
        type=str(kind),
        client_id=_text(authentication, "client_id"),
        base_url=base_url,
        organization_id=_text(fields, "organization_id"),
        workspace_id=_text(fields, "workspace_id"),
        credentials_path=_text(authentication, "credentials_path"),
    )


def _names_a_host(url: str) -> bool:
    try:
        parts = urlsplit(url)
        return bool(parts.hostname) and parts.port != 0
    except ValueError:
        return False


def parse_credentials(raw: bytes, where: str) -> OAuthToken | None:
    """Read `credentials/PROFILE.json`; None if it holds no access token. Raises `CorruptFile`.

    Times above 1e10 are milliseconds, which the SDKs would take for seconds; 0 means that the expiry isn't known.
    """
    fields = parse_object(raw)
    del raw  # a traceback shows the locals of this frame
    fault = "it isn't a JSON object"
    if fields is not None:
        try:
            return _token(fields)
        except UsageError as problem:
            fault = str(problem)
    raise CorruptFile(f"{where} can't be understood: {fault}; log in again, or let its writer write it again")


def _token(fields: Fields) -> OAuthToken | None:
    if fields.get("type") not in (None, _CREDENTIALS_TYPE):
        raise UsageError(f'"type" must be {_CREDENTIALS_TYPE}')
    access = _secret(fields, "access_token")
    if access is None:
        return None
    scope = fields.get("scope")
    return OAuthToken(
        access,
        _secret(fields, "refresh_token"),
        expires_at=_expiry(fields),
        scopes=tuple(scope.split()) if isinstance(scope, str) else (),
        unknown=fields.without(*_KNOWN),
    )


def _secret(fields: Fields, key: str) -> Secret | None:
    if fields.get(key) in (None, ""):
        return None
    try:
        return Secret(fields[key])
    except ValueError as fault:
        raise UsageError(f'"{key}": {fault}') from None


def _expiry(fields: Fields) -> int | None:
    """Read seconds since 1970. The SDKs also accept digits in a string."""
    try:
        if _is_digits(fields.get("expires_at")):
            fields = Fields(expires_at=int(fields["expires_at"]))
        if fields.get("expires_at") in (None, 0):
            return None
        return epoch_seconds(fields["expires_at"], foreign=True)
    except UsageError as fault:
        raise UsageError(f'"expires_at": {fault}') from None


def _is_digits(value: object) -> bool:
    return isinstance(value, str) and value.strip().isdecimal() and len(value) <= _MOST_DIGITS


def _text(fields: Fields, key: str) -> str | None:
    """Read a text field; None if it is empty, which the SDKs treat as missing."""
    value = fields.get(key)
    if value is not None and not isinstance(value, str):
        raise UsageError(f'"{key}" must be a string')
    return value or None


def render_config(base_url: str) -> bytes:
    """Write a profile without a client id, whose token the SDKs read again but never renew."""
    fields: dict[str, Any] = {"authentication": {"type": "user_oauth"}}
    if base_url.rstrip("/") != SDK_URL:
        fields["base_url"] = base_url.rstrip("/")
    return json.dumps(fields, indent=2).encode("ascii") + b"\n"


def render_credentials(secret: Secret, expires_at: int | None) -> bytes:
    """Write its access token only. `expires_at` is in seconds since 1970 UTC; without it the SDKs never read again."""
    fields = Fields(version=_VERSION, type=_CREDENTIALS_TYPE, access_token=secret.reveal())
    if expires_at is not None:
        fields["expires_at"] = expires_at
    return HiddenBytes(json.dumps(fields, indent=2).encode("ascii") + b"\n")
