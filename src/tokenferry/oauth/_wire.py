import json
from collections.abc import Mapping
from dataclasses import dataclass, field
from email.utils import parsedate_to_datetime
from typing import Final, Literal, TypeAlias
from urllib.parse import urlencode

MAX_ANSWER: Final = 1024 * 1024
"""The most bytes read of a token endpoint's answer."""


@dataclass(frozen=True, slots=True)
class TokenRequest:
    """A POST to a token endpoint, ready to send; its body holds secrets and isn't shown."""

    url: str
    headers: tuple[tuple[str, str], ...]
    body: bytes = field(repr=False)


@dataclass(frozen=True, slots=True)
class Answer:
    """A complete HTTP answer; its body may hold secrets and isn't shown. Header names are lower-case."""

    status: int
    headers: Mapping[str, str] = field(repr=False)
    body: bytes = field(repr=False)


@dataclass(frozen=True, slots=True)
class NotSent:
    """Not a byte of the request left this machine (DNS, connect, TLS): it may be sent again."""

    reason: str


@dataclass(frozen=True, slots=True)
class Lost:
    """The request was, or may have been, received, and no complete answer came back."""

    reason: str


Transmission: TypeAlias = Answer | NotSent | Lost


def encode_request(url: str, fields: Mapping[str, str], encoding: Literal["json", "form"]) -> TokenRequest:
    """Build the request in the encoding the provider declares (RFC 6749 says form; some take JSON alone)."""
    if encoding == "json":
        body, content_type = json.dumps(fields).encode("ascii"), "application/json"
    else:
        body, content_type = urlencode(fields).encode("ascii"), "application/x-www-form-urlencoded"
    return TokenRequest(url, (("content-type", content_type), ("accept", "application/json")), body)


def retry_after(headers: Mapping[str, str], now: float) -> float | None:
    """Seconds from a `Retry-After` header (RFC 9110 10.2.3), given as seconds or as a date; None if unusable."""
    value = headers.get("retry-after", "").strip()
    if value.isascii() and value.isdigit() and len(value) < 10:  # noqa: PLR2004  # more digits are no wait
        return float(value)
    try:
        return max(0.0, parsedate_to_datetime(value).timestamp() - now)
    except (ValueError, OverflowError):
        return None
