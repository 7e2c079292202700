"""Shared by the JSON formats: reads fields or reports their faults, and changes a section in place."""

import json
import re
from collections.abc import Callable, Mapping
from datetime import UTC, datetime
from typing import Any, Final

from tokenferry.credentials import Credential, OAuthToken, epoch_seconds
from tokenferry.errors import UsageError
from tokenferry.secret import Fields, Secret, parse_secret
from tokenferry.stores import HiddenBytes

_LONGEST_LIFE: Final = 365 * 86_400
_MOST_DIGITS: Final = 20
_NEVER: Final = "0001-01-01T00:00:00Z"
_NEAR_MISS: Final = re.compile(r"(?!.*refresh)[a-z_]{0,20}(?:expir|(?<![a-z])exp(?![a-z]))[a-z_]{0,20}", re.IGNORECASE)


def read_secret(fields: Fields, key: str) -> Secret | None:
    """Read a token; None for an absent or blank one. Raises `UsageError` with the field, never its value."""
    if fields.get(key) is None:
        return None
    if not isinstance(fields[key], str):
        raise UsageError(f'"{key}" is not a string')
    try:
        return parse_secret(fields[key]) if fields[key].strip() else None
    except ValueError as fault:
        raise UsageError(f'"{key}": {fault}') from None


def read_time(fields: Fields, key: str) -> int | None:
    """Read a time as seconds since 1970 UTC: a number (above 1e10: milliseconds), its digits, or RFC 3339.

    None if it is absent or blank, and for the zero time, which Go writes for "none". Raises `UsageError`.
    """
    value = Fields(value=fields.get(key))  # not shown in a traceback: it may be a misplaced token
    if isinstance(value["value"], str):
        text = Fields(text=value["value"].strip())
        if text["text"] in {"", _NEVER}:
            return None
        is_number = text["text"].isascii() and text["text"].isdecimal()
        value["value"] = int(text["text"][:_MOST_DIGITS]) if is_number else None
    if fields.get(key) is None:
        return None
    try:
        return epoch_seconds(_epoch(fields[key]) if value["value"] is None else value["value"], foreign=True)
    except UsageError as fault:
        raise UsageError(f'"{key}": {fault}') from None


EXPIRIES: Final = ("expires_at", "expiresAt", "expired", "expiry_date", "expiry", "expires")
"""Names of the end of an access token in several programs."""

GRANTED: Final = ("obtained_at", "issued_at", "created_at", "last_refresh")
"""Names of the time from which `expires_in` counts."""


def read_expiry(fields: Fields) -> int | None:
    """Give the end of the access token in seconds since 1970 UTC, from any of the names; None if unknown.

    A length, `expires_in`, counts only beside the time of its start. Raises `UsageError`.
    """
    for key in EXPIRIES:
        if not isinstance(fields.get(key), bool | None) and (found := read_time(fields, key)) is not None:
            return found
    began = next((found for key in GRANTED if (found := read_time(fields, key)) is not None), None)
    life = read_life(fields, "expires_in")
    return None if began is None or life is None else began + life


def read_life(fields: Fields, key: str) -> int | None:
    """Read a length of time in seconds; None for an implausible one, which doesn't invalidate the token."""
    value = fields.get(key)
    if isinstance(value, bool) or not isinstance(value, int | float) or not 0 < value <= _LONGEST_LIFE:
        return None
    return int(value)


def unread_expiry(credential: Credential) -> str | None:
    """Give the field that seems to hold the expiry of a login without a known one."""
    if not isinstance(credential, OAuthToken) or credential.expires_at is not None:
        return None
    return next((key for key in credential.unknown if _NEAR_MISS.fullmatch(key)), None)


def read_text(fields: Any, key: str) -> str | None:
    """Read a text; None if it is absent, blank or of another type, because it only describes the tokens."""
    value = fields.get(key) if isinstance(fields, dict) else None
    return value if isinstance(value, str) and value else None


def read_scopes(fields: Fields, key: str) -> tuple[str, ...]:
    """Read scopes from a list or one text; empty for any other type."""
    value = fields.get(key)
    if isinstance(value, str):
        return tuple(value.split())
    is_list = isinstance(value, list) and all(isinstance(scope, str) for scope in value)
    return tuple(value) if isinstance(value, list) and is_list else ()


def rfc3339(seconds: int) -> str:
    """Give a time in seconds since 1970 UTC as RFC 3339."""
    return datetime.fromtimestamp(seconds, UTC).strftime("%Y-%m-%dT%H:%M:%SZ")


def amend(
    section: Fields, found: Mapping[str, Any], wanted: Mapping[str, Any], encode: Mapping[str, Callable[[Any], Any]]
) -> Fields:
    """Give the section with changed values; fields with an unchanged meaning keep their text.

    `found` is the present meaning of each field, `wanted` the new one, `encode` the notation of some. None means an
    absent field.
    """
    amended = Fields(section)
    for key, value in wanted.items():
        if value == found.get(key) and (key in section or value is None):
            continue
        if value is None:
            amended.pop(key, None)
        else:
            amended[key] = encode[key](value) if key in encode else value
    return amended


def to_bytes(value: Any) -> bytes:
    """Give a JSON document for people and programs, secrets revealed."""
    return HiddenBytes(json.dumps(value, indent=2).encode("ascii") + b"\n")


def _epoch(text: str) -> float:
    try:
        moment = datetime.fromisoformat(text)
        return moment.replace(tzinfo=moment.tzinfo or UTC).timestamp()
    except (ValueError, OverflowError):
        del text  # a traceback shows the locals of this frame, and what is not a time may be a misplaced token
    raise UsageError("a time in words must be RFC 3339, such as 2026-01-31T12:00:00Z")
