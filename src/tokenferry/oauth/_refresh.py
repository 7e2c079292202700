import logging
import re
from dataclasses import dataclass, replace
from typing import Any, Final, TypeAlias, TypeGuard

from tokenferry.credentials import OAuthToken
from tokenferry.oauth._endpoints import OAuthEndpoints
from tokenferry.oauth._wire import Answer, NotSent, TokenRequest, Transmission, encode_request, retry_after
from tokenferry.secret import Fields, Secret, parse_object

logger = logging.getLogger(__name__)

_DEAD: Final = frozenset({"invalid_grant", "refresh_token_reused"})
_DEFAULT_LIFETIME: Final = 3600
_ODD_LIFETIME: Final = 60
_LONGEST_LIFETIME: Final = 365 * 86_400
_SHOWN: Final = 200
_TELLING: Final = 20  # so many characters of a token already tell too much


@dataclass(frozen=True, slots=True)
class Granted:
    """The server gave new tokens."""

    token: OAuthToken


@dataclass(frozen=True, slots=True)
class Denied:
    """The server says that this refresh token is dead (RFC 6749 5.2, invalid_grant)."""

    reason: str


@dataclass(frozen=True, slots=True)
class Closed:
    """Nothing was granted and nothing decided; the same token may be presented again later (seconds, if told)."""

    reason: str
    retry_after: float | None = None


@dataclass(frozen=True, slots=True)
class Uncertain:
    """The server may have rotated the token; what it answered is lost."""

    reason: str


Outcome: TypeAlias = Granted | Denied | Closed | Uncertain


def refresh_request(endpoints: OAuthEndpoints, refresh: Secret, client_secret: Secret | None) -> TokenRequest:
    """A refresh grant (RFC 6749 6). `endpoints` must name a token_url."""
    assert endpoints.token_url is not None
    fields = Fields(grant_type="refresh_token", refresh_token=refresh.reveal())
    if endpoints.client_id is not None:
        fields["client_id"] = endpoints.client_id
    if client_secret is not None:
        fields["client_secret"] = client_secret.reveal()
    return encode_request(endpoints.token_url, fields, endpoints.token_body)


def read_refresh(transmission: Transmission, old: OAuthToken, sent_at: float, now: float) -> Outcome:
    """Say what became of a refresh grant. `sent_at` and `now` are seconds since 1970 UTC."""
    if isinstance(transmission, NotSent):
        return Closed(transmission.reason)
    if not isinstance(transmission, Answer):
        return Uncertain(transmission.reason)
    fields = parse_object(transmission.body)
    if transmission.status // 100 == 2:  # noqa: PLR2004  # the class of success
        token = None if fields is None else _merge(old, fields, int(sent_at))
        return Uncertain("the answer could not be read") if token is None else Granted(token)
    code, description = _error(fields)
    told = f"{code}: {description}" if code and description else code or description
    reason = f"HTTP {transmission.status}" + (f" ({_redacted(told, old)})" if told else "")
    if code in _DEAD and transmission.status // 100 == 4:  # noqa: PLR2004  # the class of client errors
        return Denied(_redacted(told, old))
    return Closed(reason, retry_after(transmission.headers, now))


def _merge(old: OAuthToken, fields: Fields, sent_at: int) -> OAuthToken | None:
    """The old token set with what the answer gives anew; None if the answer holds no usable access token."""
    try:
        access = Secret(fields["access_token"])
        refresh = Secret(fields["refresh_token"]) if fields.get("refresh_token") else old.refresh
    except (KeyError, TypeError, ValueError):
        return None
    lifetime = _lifetime(fields.get("expires_in"))
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
        email=_text(account, "email_address") or old.email,
        account_id=_text(account, "uuid") or old.account_id,
        organization_id=_text(organization, "uuid") or old.organization_id,
        refresh_expires_at=(
            sent_at + int(refresh_life)
            if _is_number(refresh_life) and 0 < refresh_life <= _LONGEST_LIFETIME * 2
            else (None if rotated else old.refresh_expires_at)
        ),
        source="refresh",
    )


def _lifetime(value: Any) -> int:
    """`expires_in` in seconds; an odd one never discards tokens."""
    if isinstance(value, str) and value.isascii() and value.isdigit():
        value = int(value[:12])
    if value is None or not _is_number(value):
        return _DEFAULT_LIFETIME
    if not 0 < value <= _LONGEST_LIFETIME:
        logger.warning("the token endpoint answered expires_in %s; taken as %s seconds", value, _ODD_LIFETIME)
        return _ODD_LIFETIME
    return max(1, int(value))


def _is_number(value: Any) -> TypeGuard[int | float]:
    return isinstance(value, int | float) and not isinstance(value, bool)


def _scopes(value: Any) -> tuple[str, ...]:
    if isinstance(value, list):
        return tuple(scope for scope in value if isinstance(scope, str))
    return tuple(value.split()) if isinstance(value, str) else ()


def _text(table: Any, key: str) -> str | None:
    value = table.get(key) if isinstance(table, dict) else None
    return value if isinstance(value, str) and value else None


def _error(fields: Fields | None) -> tuple[str, str]:
    """The error code and its description, from an RFC 6749 body or an Anthropic envelope."""
    if fields is None:
        return "", ""
    error = fields.get("error")
    if isinstance(error, dict):
        return _text(error, "type") or "", _text(error, "message") or ""
    return (error if isinstance(error, str) else ""), _text(fields, "error_description") or ""


def _redacted(text: str, old: OAuthToken) -> str:
    """The server's words, fit for a message: without our tokens, without control characters, cut to a line."""
    for secret in filter(None, (old.secret, old.refresh)):
        text = re.sub(re.escape(secret.reveal()[:_TELLING]) + "[!-~]*", "[redacted]", text)
    return "".join(character if character.isprintable() else " " for character in text)[:_SHOWN]
