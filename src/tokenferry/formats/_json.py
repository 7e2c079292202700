"""What the JSON formats share: reading one field or saying what is wrong with it, and changing a section in place."""

import json
from collections.abc import Callable, Mapping
from datetime import UTC, datetime
from typing import Any

from tokenferry.credentials import epoch_seconds
from tokenferry.errors import UsageError
from tokenferry.secret import Fields, Secret, parse_secret
from tokenferry.stores import HiddenBytes


def read_secret(fields: Fields, key: str) -> Secret | None:
    """A token; None for an absent or blank one. Raises `UsageError`, naming the field and never its value."""
    if fields.get(key) is None:
        return None
    if not isinstance(fields[key], str):
        raise UsageError(f'"{key}" is no string')
    try:
        return parse_secret(fields[key]) if fields[key].strip() else None
    except ValueError as fault:
        raise UsageError(f'"{key}": {fault}') from None


def read_time(fields: Fields, key: str) -> int | None:
    """Seconds since 1970 UTC, of a number (above 1e10: milliseconds) or an RFC 3339 text. Raises `UsageError`."""
    if fields.get(key) is None:
        return None
    try:
        return epoch_seconds(_epoch(fields[key]) if isinstance(fields[key], str) else fields[key], foreign=True)
    except UsageError as fault:
        raise UsageError(f'"{key}": {fault}') from None


def read_text(fields: Any, key: str) -> str | None:
    """A text; None for what is absent, blank, or of another type: it only describes the tokens."""
    value = fields.get(key) if isinstance(fields, dict) else None
    return value if isinstance(value, str) and value else None


def read_scopes(fields: Fields, key: str) -> tuple[str, ...]:
    """Scopes as a list or one text; none for what is neither."""
    value = fields.get(key)
    if isinstance(value, str):
        return tuple(value.split())
    is_list = isinstance(value, list) and all(isinstance(scope, str) for scope in value)
    return tuple(value) if isinstance(value, list) and is_list else ()


def rfc3339(seconds: int) -> str:
    """A time in seconds since 1970 UTC as RFC 3339."""
    return datetime.fromtimestamp(seconds, UTC).strftime("%Y-%m-%dT%H:%M:%SZ")


def amend(
    section: Fields, found: Mapping[str, Any], wanted: Mapping[str, Any], encode: Mapping[str, Callable[[Any], Any]]
) -> Fields:
    """The section with the fields whose meaning changed; the others stay as they are written there.

    `found` is what each field meant, `wanted` what it shall mean, `encode` how the file spells some; None stands for
    "absent".
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
    """A JSON document for people and programs, secrets revealed."""
    return HiddenBytes(json.dumps(value, indent=2).encode("ascii") + b"\n")


def _epoch(text: str) -> float:
    try:
        moment = datetime.fromisoformat(text)
        return moment.replace(tzinfo=moment.tzinfo or UTC).timestamp()
    except (ValueError, OverflowError):
        del text  # a traceback shows the locals of this frame, and what is no time may be a misplaced token
    raise UsageError("a time in words must be RFC 3339, such as 2026-01-31T12:00:00Z")
