"""One OAuth login as one JSON object: a bundle of ours, a token endpoint's answer, or an SDK profile's credentials."""

from typing import Any, Final

from tokenferry.credentials import SETUP_TOKEN_PREFIX, OAuthToken
from tokenferry.errors import UsageError
from tokenferry.interchange._entry import Entry
from tokenferry.interchange._json import (
    EXPIRIES,
    read_expiry,
    read_life,
    read_scopes,
    read_secret,
    read_text,
    read_time,
    rfc3339,
    to_bytes,
)
from tokenferry.secret import Fields, parse_object

_TEXTS: Final = ("subscription_type", "rate_limit_tier", "account_id", "organization_id", "source")
_PROFILE: Final = Fields(version="1.0", type="oauth_token")
_KNOWN: Final = (
    *("access_token", "refresh_token", "expires_in", "obtained_at", "refresh_expires_at", "lifetime"),
    *EXPIRIES,
    *("account_email", "email", "account", "organization", "account_uuid", "scope", "scopes", "token_type"),
    *(*_TEXTS, *_PROFILE),
)


def parse_bundle(raw: bytes) -> tuple[Entry, ...]:
    """Read the one login. Raises `UsageError` if it isn't a JSON object; other faults are the entry's."""
    fields = parse_object(raw)
    if fields is None:
        raise UsageError("it isn't a JSON object")
    try:
        token = _token(fields)
    except UsageError as fault:
        return (Entry("", fault=str(fault)),)
    if token is None:
        return (Entry("", fault="logged out: both tokens are blank"),)
    is_claude = token.secret.reveal().startswith(SETUP_TOKEN_PREFIX)
    return (Entry(token.email or "", token, provider="claude-max" if is_claude else None),)


def looks_like_bundle(value: Any) -> bool:
    """Return whether a JSON value can be a login of its own."""
    return isinstance(value, Fields) and isinstance(value.get("access_token"), str)


def looks_like_profile(value: Any) -> bool:
    """Return whether a JSON value can be an SDK profile's credentials."""
    return looks_like_bundle(value) and value.get("type") == _PROFILE["type"]


def render_bundle(token: OAuthToken) -> bytes:
    """Give the login as a bundle, secrets revealed, without unknown fields."""
    known_fields = {name: getattr(token, name) for name in (*_TEXTS, "expires_at", "obtained_at", "refresh_expires_at")}
    known_fields |= {"lifetime": token.lifetime, "account_email": token.email, "scopes": list(token.scopes) or None}
    if token.obtained_at is not None:
        known_fields["obtained_at"] = rfc3339(token.obtained_at)
    fields = Fields(token.unknown.without(*_KNOWN), access_token=token.secret.reveal())
    fields["refresh_token"] = token.refresh.reveal() if token.refresh else ""  # its readers want a string
    fields.update((key, value) for key, value in known_fields.items() if value is not None)
    return to_bytes(fields)


def render_profile(token: OAuthToken) -> bytes:
    """Give the login as the credentials of an SDK profile, secrets revealed.

    Raises `UsageError` without an expiry, because the SDKs would use such a token for ever.
    """
    if token.expires_at is None:
        raise UsageError("a profile's credentials want an expiry, and this token's is not known")
    fields = Fields(_PROFILE, access_token=token.secret.reveal())
    if token.refresh is not None:
        fields["refresh_token"] = token.refresh.reveal()
    fields["expires_at"] = token.expires_at
    return to_bytes(fields)


def _token(fields: Fields) -> OAuthToken | None:
    access, refresh = read_secret(fields, "access_token"), read_secret(fields, "refresh_token")
    if access is None:
        if refresh is not None:
            raise UsageError('"access_token" is blank, though "refresh_token" is not')
        return None
    texts = {name: read_text(fields, name) for name in _TEXTS}
    texts["account_id"] = texts["account_id"] or read_text(fields, "account_uuid") or _of(fields, "account", "uuid")
    texts["organization_id"] = texts["organization_id"] or _of(fields, "organization", "uuid")
    return OAuthToken(
        access,
        refresh,
        expires_at=read_expiry(fields),
        obtained_at=read_time(fields, "obtained_at"),
        lifetime=read_life(fields, "lifetime") or read_life(fields, "expires_in"),
        refresh_expires_at=read_time(fields, "refresh_expires_at"),
        scopes=read_scopes(fields, "scopes") or read_scopes(fields, "scope"),
        email=_email(fields),
        **texts,
        unknown=fields.without(*_KNOWN),
    )


def _email(fields: Fields) -> str | None:
    named = read_text(fields, "account_email") or read_text(fields, "email")
    return named or _of(fields, "account", "emailAddress") or _of(fields, "account", "email_address")


def _of(fields: Fields, table: str, key: str) -> str | None:
    return read_text(fields.get(table), key)
