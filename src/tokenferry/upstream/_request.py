import re
from collections.abc import Sequence
from functools import lru_cache
from typing import NamedTuple

import msgspec

from tokenferry.upstream._origin import Origin

__all__ = ["FRAMING_HEADERS", "Body", "EncodedHeaders", "UpstreamRequest", "build_request", "encode_headers"]

Piece = bytes | bytearray | memoryview
Body = bytes | Sequence[Piece]

FRAMING_HEADERS = frozenset(
    {
        b"connection",
        b"content-length",
        b"expect",
        b"host",
        b"keep-alive",
        b"proxy-connection",
        b"te",
        b"trailer",
        b"transfer-encoding",
        b"upgrade",
    }
)
"""Headers that only this client may set, in lower case. Callers strip them."""

_METHOD = re.compile(r"[A-Z]{1,32}")
_NAME = re.compile(rb"[!#$%&'*+.^_`|~0-9A-Za-z-]{1,256}")
_TARGET = re.compile(rb"/[\x21\x22\x24-\x7e]*")
_COPIED = 16 * 1024  # up to this size, copying costs less than a second write
_BODIED = frozenset({"POST", "PUT", "PATCH"})
_NUL = 0  # searching bytes for a number takes a tenth of the time


class UpstreamRequest(msgspec.Struct, frozen=True, eq=False):
    """An encoded request. Its `repr` shows nothing, since the head holds a credential."""

    pieces: Sequence[Piece]
    head_only: bool

    def __repr__(self) -> str:
        return "UpstreamRequest()"


class EncodedHeaders(msgspec.Struct, frozen=True, eq=False):
    """Header lines, checked for line ends that a value smuggled in. Its `repr` shows nothing, as above."""

    text: bytes
    fault: str | None = None
    """Why they can't be sent."""

    @classmethod
    def of(cls, lines: Sequence[bytes]) -> "EncodedHeaders":
        """Give the lines as one text. Their names are valid, and none of them is in `FRAMING_HEADERS`."""
        text = b"".join(lines)
        is_sound = text.count(b"\n") == text.count(b"\r") == len(lines) and _NUL not in text
        return cls(text) if is_sound else cls(b"", "a header's value holds CR, LF or NUL")

    def __repr__(self) -> str:
        return "EncodedHeaders()"


def encode_headers(headers: Sequence[tuple[bytes, bytes]]) -> EncodedHeaders:
    """Encode headers, whose names are checked, too."""
    known = [(_known_name(name), value) for name, value in headers]
    fault = next((name.fault for name, _ in known if name.fault), None)
    if fault is not None:
        return EncodedHeaders(b"", fault)
    return EncodedHeaders.of([b"%b: %b\r\n" % (name.line, value) for name, value in known])


class _Name(NamedTuple):
    line: bytes
    fault: str | None


def build_request(
    origin: Origin,
    method: str,
    target: bytes,
    headers: EncodedHeaders,
    body: Body,
    *,
    own: bytes = b"",
) -> UpstreamRequest | str:
    """Build a request, or say why it is invalid. It never raises, so that no traceback holds a credential.

    `own` are the client's own header lines.
    """
    start = _start(origin, method, target)
    if isinstance(start, str):
        return start
    if headers.fault is not None:
        return headers.fault
    parts: Sequence[Piece] = (body,) if isinstance(body, bytes) else body
    length = 0
    for part in parts:
        length += part.nbytes if isinstance(part, memoryview) else len(part)
    framing = b"content-length: %d\r\n\r\n" % length if length or method in _BODIED else b"\r\n"
    head = (start, headers.text, own, framing)
    pieces = (b"".join((*head, *parts)),) if length <= _COPIED else (b"".join(head), *parts)
    return UpstreamRequest(pieces, head_only=method == "HEAD")


@lru_cache(maxsize=256)
def _start(origin: Origin, method: str, target: bytes) -> bytes | str:
    """Give the first two lines of a request, or say why it is invalid."""
    if not _METHOD.fullmatch(method) or method == "CONNECT":
        return "its method is not an HTTP method"
    if not _TARGET.fullmatch(target):
        return "its target must begin with a slash and contain only printable ASCII without blanks"
    return b"%b %b%b HTTP/1.1\r\nhost: %b\r\n" % (method.encode(), origin.prefix, target, origin.authority.encode())


@lru_cache(maxsize=1024)
def _known_name(name: bytes) -> _Name:
    if not _NAME.fullmatch(name):
        return _Name(b"", "a header's name is not a token (RFC 9110, 5.6.2)")
    if name.lower() in FRAMING_HEADERS:
        return _Name(b"", f"the header {name.decode().lower()} is set by the client itself")
    return _Name(name, None)
