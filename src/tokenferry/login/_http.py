"""The part of HTTP/1.1 that a login's callback needs: one request head, one small page."""

import re
from collections.abc import Mapping
from html import escape
from http import HTTPStatus
from typing import ClassVar, Final

from tokenferry.secret import Concealing, Fields

MAX_HEAD: Final = 16 * 1024

_REQUEST_LINE: Final = re.compile(r"([A-Z]{1,16}) (/[!-~]*) HTTP/1\.[01]")
_HEADER: Final = re.compile(r"([!#$%&'*+.^_`|~0-9A-Za-z-]+):[ \t]*([\t -~]*)")
_HEADERS: Final = (
    ("content-type", "text/html; charset=utf-8"),
    ("cache-control", "no-store"),
    ("connection", "close"),
    ("content-security-policy", "default-src 'none'; base-uri 'none'; form-action 'none'; frame-ancestors 'none'"),
    ("cross-origin-opener-policy", "same-origin"),
    ("referrer-policy", "no-referrer"),
    ("x-content-type-options", "nosniff"),
)


class CallbackRequest(Concealing, frozen=True):
    """A request's head. The query may hold a code, and isn't shown; header names are lower-case."""

    hidden: ClassVar = ("query", "headers")

    method: str
    path: str
    query: str
    headers: Mapping[str, str]

    @classmethod
    def of(cls, head: bytes) -> "CallbackRequest | None":
        """Parse a head without its final empty line; None if it is malformed or repeats a header."""
        first, *lines = head.decode("latin-1").split("\r\n")
        del head  # a traceback shows the locals of this frame
        line = _REQUEST_LINE.fullmatch(first)
        found = [_HEADER.fullmatch(one) for one in lines]
        if line is None or not all(found):
            return None
        headers = Fields({one[1].lower(): one[2].strip() for one in found if one})
        path, _, query = line[2].partition("?")
        return cls(line[1], path, query, headers) if len(headers) == len(found) else None


class CallbackReply(Concealing, frozen=True):
    """A self-contained page. Its headers may hold secrets, and aren't shown."""

    hidden: ClassVar = ("headers",)

    status: HTTPStatus
    title: str
    text: str
    headers: tuple[tuple[str, str], ...] = ()

    def to_bytes(self) -> bytes:
        body = (
            f"<!doctype html><html lang=en><meta charset=utf-8><title>tokenferry: {escape(self.title)}</title>"
            f"<h1>{escape(self.title)}</h1><p>{escape(self.text)}</p></html>\n"
        ).encode()
        headers = (*_HEADERS, ("content-length", str(len(body))), *self.headers)
        lines = [f"HTTP/1.1 {self.status.value} {self.status.phrase}", *(f"{name}: {value}" for name, value in headers)]
        return "\r\n".join((*lines, "", "")).encode("ascii") + body
