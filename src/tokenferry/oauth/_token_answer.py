"""The common part of token endpoints' answers (RFC 6749 5), for every grant."""

import logging
import re
from collections.abc import Iterable
from datetime import UTC, datetime
from typing import Any, Final, TypeGuard

from msgspec.structs import replace

from tokenferry.credentials import OAuthToken
from tokenferry.secret import Fields, Secret

logger = logging.getLogger(__name__)

_DEFAULT_LIFETIME: Final = 3600
_ODD_LIFETIME: Final = 60
_LONGEST_LIFETIME: Final = 365 * 86_400
_EPOCH_FROM: Final = 1_000_000_000
_MILLISECONDS_FROM: Final = 100_000_000_000
_NO_INSTANT: Final = 10**18
"""Above every count of seconds or milliseconds; JSON has numbers that a float can't hold."""
_SHOWN: Final = 200
_TYPE_SHOWN: Final = 40
_TELLING: Final = 20  # characters of a token that identify it


def read_token(fields: Fields, old: OAuthToken | None, sent_at: int, source: str) -> OAuthToken | None:
    """Return the old token with the answer's fields; None if the answer has no usable access token.

    If its refresh token can't be read, the access token is still used and the old refresh token stays (`odd_refresh`).
    """
    access = _secret(fields, "access_token")
    if access is None:
        return None
    old = old or OAuthToken(access)
    refresh = _secret(fields, "refresh_token") or old.refresh
    lifetime = lifetime_of(fields.get("expires_in", seconds_until(fields.get("expired_in"), sent_at)))
    account, organization = fields.get("account"), fields.get("organization")
    rotated = refresh != old.refresh
    refresh_life = fields.get("refresh_token_expires_in")
    return replace(
        old,
        secret=access,
        refresh=refresh,
        expires_at=sent_at + lifetime,
        lifetime=lifetime,
        obtained_at=sent_at,
        scopes=_scopes(fields.get("scope")) or old.scopes,
        email=text_of(account, "email_address") or old.email,
        account_id=text_of(account, "uuid") or old.account_id,
        organization_id=text_of(organization, "uuid") or old.organization_id,
        refresh_expires_at=(
            sent_at + int(refresh_life)
            if _is_number(refresh_life) and 0 < refresh_life <= _LONGEST_LIFETIME * 2
            else (None if rotated else old.refresh_expires_at)
        ),
        source=source,
    )


def odd_token_type(fields: Fields) -> str | None:
    """Return the token's type, for a message, if it isn't Bearer; a missing type counts as Bearer.

    A client must not use a token of an unknown type (RFC 6749 7.1).
    """
    kind = fields.get("token_type")
    if kind is None or kind == "" or (isinstance(kind, str) and kind.lower() == "bearer"):
        return None
    return server_words(repr(kind), "", ())[:_TYPE_SHOWN]


def odd_refresh(fields: Fields) -> bool:
    """Whether the answer has a refresh token that can't be read, which may have replaced the old one."""
    return fields.get("refresh_token") not in (None, "") and _secret(fields, "refresh_token") is None


def refuses(fields: Fields | None) -> bool:
    """Whether an answer with a status of success is an error, as some servers send, and counts like a 4xx.

    An answer with a usable access token is a grant, whatever else it holds.
    """
    return fields is not None and bool(error_codes(fields)) and _secret(fields, "access_token") is None


def error_codes(fields: Fields | None) -> tuple[str, ...]:
    """Return the answer's error codes: RFC 6749's `error`, or the `type` and `code` of an object there."""
    error = None if fields is None else fields.get("error")
    if isinstance(error, dict):
        found = (error.get("type"), error.get("code"))
        return tuple(str(code) for code in found if code and (isinstance(code, str) or _is_number(code)))
    return (error,) if isinstance(error, str) and error else ()


def error_of(fields: Fields | None) -> tuple[str, str]:
    """Return error code and description, from an RFC 6749 body or an Anthropic envelope."""
    error = None if fields is None else fields.get("error")
    table, name = (error, "message") if isinstance(error, dict) else (fields, "error_description")
    return next(iter(error_codes(fields)), ""), text_of(table, name) or ""


def server_words(code: str, description: str, secrets: Iterable[Secret | None]) -> str:
    """Make the server's error fit for a message: without our secrets and control characters, cut to a line."""
    text = f"{code}: {description}" if code and description else code or description
    for secret in secrets:
        if secret is not None:
            text = re.sub(re.escape(secret.reveal()[:_TELLING]) + "[!-~]*", "[redacted]", text)
    return "".join(character if character.isprintable() else " " for character in text)[:_SHOWN]


def text_of(table: Any, key: str) -> str | None:
    """Return the text under a key; None if absent or empty."""
    value = table.get(key) if isinstance(table, dict) else None
    return value if isinstance(value, str) and value else None


def number_of(table: Any, key: str) -> float | None:
    """Return the number under a key, also one written as digits; None if absent."""
    value = table.get(key) if isinstance(table, dict) else None
    if isinstance(value, str) and value.isascii() and value.isdigit():
        value = int(value[:12])
    return float(value) if _is_number(value) else None


def _secret(fields: Fields, key: str) -> Secret | None:
    try:
        return Secret(fields[key])
    except (KeyError, TypeError, ValueError):
        return None


def lifetime_of(value: Any) -> int:
    """Read `expires_in` in seconds; an invalid value never discards a token."""
    if isinstance(value, str) and value.isascii() and value.isdigit():
        value = int(value[:12])
    if value is None or not _is_number(value):
        return _DEFAULT_LIFETIME
    if not 0 < value <= _LONGEST_LIFETIME:
        logger.warning("the token endpoint answered expires_in %s; taken as %s seconds", value, _ODD_LIFETIME)
        return _ODD_LIFETIME
    return max(1, int(value))


def seconds_until(value: Any, now: float) -> Any:
    """Return the seconds from `now` (since 1970 UTC) to an instant in seconds, milliseconds or ISO 8601.

    A span in seconds, and anything else, is returned unchanged.
    """
    if isinstance(value, str) and not (value.isascii() and value.isdigit()):
        try:
            end = datetime.fromisoformat(value)
        except ValueError:
            return value
        return (end if end.tzinfo else end.replace(tzinfo=UTC)).timestamp() - now
    if isinstance(value, str):
        value = int(value[:20])
    if not _is_number(value) or not _EPOCH_FROM <= value < _NO_INSTANT:
        return value
    return (value / 1000 if value >= _MILLISECONDS_FROM else value) - now


def _is_number(value: Any) -> TypeGuard[int | float]:
    return isinstance(value, int | float) and not isinstance(value, bool)


def _scopes(value: Any) -> tuple[str, ...]:
    if isinstance(value, list):
        return tuple(scope for scope in value if isinstance(scope, str))
    return tuple(value.split()) if isinstance(value, str) else ()
