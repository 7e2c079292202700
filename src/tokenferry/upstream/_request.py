import re
from collections.abc import Sequence
from functools import lru_cache
from typing import NamedTuple

import msgspec

from tokenferry.upstream._origin import Origin

__all__ = ["FRAMING_HEADERS", "Body", "UpstreamRequest", "build_request"]

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


class _Name(NamedTuple):
    line: bytes
    fault: str | None


def build_request(
    origin: Origin,
    method: str,
    target: bytes,
    headers: Sequence[tuple[bytes, bytes]],
    body: Body,
    *,
    ready: Sequence[bytes] = (),
) -> UpstreamRequest | str:
    """Build a request, or say why it is invalid. It never raises, so that no traceback holds a credential.

    `ready` are encoded headers with valid names, none of them in `FRAMING_HEADERS`.
    """
    start = _start(origin, method, target)
    if isinstance(start, str):
        return start
    parts: Sequence[Piece] = (body,) if isinstance(body, bytes) else body
    length = 0
    for part in parts:
        length += part.nbytes if isinstance(part, memoryview) else len(part)
    lines = [start, *ready]
    for name, value in headers:
        known = _known_name(name)
        if known.fault:
            return known.fault
        lines.append(b"%b: %b\r\n" % (known.line, value))
    if length or method in _BODIED:
        lines.append(b"content-length: %d\r\n" % length)
    lines.append(b"\r\n")
    head = b"".join(lines)
    # Each piece ends one line, the first one two. A further line end was smuggled in by a value.
    line_ends = len(lines) + 1
    if head.count(b"\n") != line_ends or head.count(b"\r") != line_ends or _NUL in head:
        return "a header's value holds CR, LF or NUL"
    if not length:
        pieces: Sequence[Piece] = (head,)
    elif length <= _COPIED:
        pieces = (b"".join((head, *parts)),)
    else:
        pieces = (head, *parts)
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
