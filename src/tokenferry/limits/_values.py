"""Reads the values of limit headers. The functions give None for an invalid value and never raise."""

import re
from collections.abc import Mapping
from datetime import UTC, datetime
from typing import Final

from tokenferry.oauth import retry_after

_NUMBER: Final = re.compile(r"[0-9]{1,16}(?:\.[0-9]{1,20})?(?:[eE][+-]?[0-9]{1,2})?")
_LAST_MOMENT: Final = 4_102_444_800
_LONGEST_WAIT: Final = 366 * 86_400
_SPAN: Final = re.compile(r"(?:[0-9]{1,9}(?:\.[0-9]{1,9})?(?:ns|us|µs|μs|ms|s|m|h)){1,8}")
_SPAN_PART: Final = re.compile(r"([0-9.]+)([a-zµμ]+)")
_REGAIN: Final = re.compile(r"regain access on ([0-9]{4}-[0-9]{2}-[0-9]{2})(?: at ([0-9]{2}:[0-9]{2}) UTC)?")
_PARAMETER: Final = re.compile(r"([A-Za-z_]+)\s*=\s*(?:\"([^\"]*)\"|([^\s,\"]+))")
_LONGEST_CHALLENGE: Final = 1024
_UNITS: Final = {"ns": 1e-9, "us": 1e-6, "µs": 1e-6, "μs": 1e-6, "ms": 1e-3, "s": 1.0, "m": 60.0, "h": 3600.0}


def read_number(text: str) -> float | None:
    """Read a non-negative number."""
    text = text.strip()
    return float(text) if _NUMBER.fullmatch(text) else None


def read_moment(text: str) -> float | None:
    """Read epoch seconds or an RFC 3339 time as seconds since 1970 UTC; None for a time after 2099."""
    seconds = read_number(text)
    if seconds is None:
        try:
            moment = datetime.fromisoformat(text.strip())
        except ValueError:
            return None
        if moment.tzinfo is None:
            return None
        seconds = moment.timestamp()
    return seconds if 0 < seconds <= _LAST_MOMENT else None


def read_span(text: str) -> float | None:
    """Read seconds, or a duration in Go's form, `6m0s` or `120ms`, as seconds."""
    text = text.strip()
    seconds = read_number(text)
    if seconds is not None:
        return _bounded(seconds)
    if not _SPAN.fullmatch(text):
        return None
    return _bounded(sum(float(number) * _UNITS[unit] for number, unit in _SPAN_PART.findall(text)))


def read_wait(headers: Mapping[str, str], now: float) -> float | None:
    """Read `retry-after-ms`, or else `retry-after` as a number or a date (RFC 9110 10.2.3), as seconds."""
    milliseconds = read_number(headers.get("retry-after-ms", ""))
    if milliseconds is not None:
        return _bounded(milliseconds / 1000)
    seconds = read_number(headers.get("retry-after", ""))
    return _bounded(retry_after(headers, now) if seconds is None else seconds)


def read_regain(message: str) -> float | None:
    """Read the time at which a message promises access again, in seconds since 1970 UTC."""
    found = _REGAIN.search(message)
    if found is None:
        return None
    try:
        return datetime.fromisoformat(f"{found[1]}T{found[2] or '00:00'}").replace(tzinfo=UTC).timestamp()
    except ValueError:
        return None


def read_challenge(headers: Mapping[str, str]) -> str:
    """Read the error in a `www-authenticate` header (RFC 6750 3); empty without one."""
    challenge = next((value for name, value in headers.items() if name.lower() == "www-authenticate"), "")
    named = (one for one in _PARAMETER.finditer(challenge[:_LONGEST_CHALLENGE]) if one[1].lower() == "error")
    return next((one[2] or one[3] or "" for one in named), "")


def _bounded(seconds: float | None) -> float | None:
    return seconds if seconds is not None and seconds <= _LONGEST_WAIT else None
