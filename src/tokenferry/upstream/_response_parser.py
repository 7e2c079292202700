import msgspec
from httptools import HttpParserError, HttpParserUpgrade, HttpResponseParser

from tokenferry.upstream._values import ResponseHead

__all__ = ["HEADER_LIMIT", "HEAD_LIMIT", "ReadResult", "ResponseParser"]

HEAD_LIMIT = 64 * 1024
"""The most bytes of a head, interim answers included, and of other bytes without body."""
HEADER_LIMIT = 256

_TOO_LONG = f"a head of more than {HEAD_LIMIT} bytes"
_CONTINUE = 100
_SWITCHING_PROTOCOLS = 101
_OK = 200
_LAST_STATUS = 599


class ReadResult(msgspec.Struct, frozen=True):
    """The part of an answer in one read."""

    head: ResponseHead | None
    parts: list[bytes]
    complete: bool
    fault: str | None


class _RefusedError(Exception):
    """Stops the parser from within a callback."""


class ResponseParser:
    """Parses HTTP/1.1 answers strictly, one after another, without I/O (RFC 9112)."""

    def __init__(self) -> None:
        self._parts: list[bytes] = []
        # Called for each part of a body. A C method is faster, since a read may hold a hundred parts.
        self.on_body = self._parts.append
        self._parser = HttpResponseParser(self)
        self.expect(head_only=False)

    def expect(self, *, head_only: bool) -> None:
        """Prepare for the next answer. With `head_only` it has no body, whatever its headers say."""
        self.complete = self.keep_alive = self._head_done = self._interim = self._framed = False
        self.surplus = False
        """Whether bytes followed the end of the answer."""
        self._head_only = head_only
        self._head: ResponseHead | None = None
        self._parts.clear()
        self._headers: list[tuple[bytes, bytes]] = []
        self._interim_bytes = self._quiet_bytes = 0
        self._fault: str | None = None

    def feed(self, data: bytes) -> ReadResult:
        """Parse the bytes of one read."""
        self._quiet_bytes += len(data)
        fault: str | None = None
        try:
            self._parser.feed_data(data)
        except (HttpParserError, HttpParserUpgrade) as error:
            if self.complete:
                self.surplus = True
            else:
                fault = self._fault or f"{error}"
        if self._parts:
            self._quiet_bytes = 0
            if self._head_only:
                self.surplus = True
                self._parts.clear()
        elif fault is None and self._quiet_bytes > HEAD_LIMIT and not self.complete:
            # An endless header, chunk extension or trailer, which the parser does not report.
            fault = f"more than {HEAD_LIMIT} bytes without a byte of body"
        head, parts = self._head, self._parts.copy()
        self._head = None
        self._parts.clear()
        return ReadResult(head, parts, self.complete, fault)

    def ends_with_connection(self) -> bool:
        """Whether the end of the connection ends the answer, since it has no other framing."""
        return self._head_done and not self._framed and not self.complete

    def on_message_begin(self) -> None:
        if self.complete:
            raise _RefusedError

    def on_header(self, name: bytes, value: bytes) -> None:
        if self._head_done:
            return  # a trailer: merging it into the head would be unsafe
        name = name.lower()
        if name == b"content-length":
            self._framed = True
        elif name == b"transfer-encoding":
            # "gzip, chunked" would be passed on compressed, as if it were plain.
            if self._framed or value.strip(b" \t").lower() != b"chunked":
                self._refuse("a transfer-encoding other than chunked")
            self._framed = True
        self._headers.append((name, value.rstrip(b" \t")))

    def on_headers_complete(self) -> None:
        if len(self._headers) > HEADER_LIMIT:
            self._refuse(f"more than {HEADER_LIMIT} headers")
        # A read may consist mostly of body.
        if self._quiet_bytes > HEAD_LIMIT and self._interim_bytes + self._head_size() > HEAD_LIMIT:
            self._refuse(_TOO_LONG)
        status = self._parser.get_status_code()
        version = self._parser.get_http_version()
        if version not in ("1.1", "1.0"):
            self._refuse(f"HTTP/{version}")
        if _CONTINUE <= status < _OK and status != _SWITCHING_PROTOCOLS:
            if self._framed:
                self._refuse("an interim answer with a body")
            self._interim = True
            self._interim_bytes += self._head_size()
            self._headers = []
            return
        if not _OK <= status <= _LAST_STATUS:
            self._refuse(f"status {status}")
        if version == "1.0" and any(name == b"transfer-encoding" for name, _ in self._headers):
            self._refuse("chunks in HTTP/1.0")
        self._head = ResponseHead(status, self._headers)
        self._head_done = True
        self._quiet_bytes = 0
        if self._head_only:
            # The parser expects a body, so the connection can't be reused.
            self.complete = True
            return
        self.keep_alive = self._parser.should_keep_alive()

    def on_message_complete(self) -> None:
        if self._interim:
            self._interim = False
        else:
            self.complete = True

    def _head_size(self) -> int:
        return sum(len(name) + len(value) + 4 for name, value in self._headers)

    def _refuse(self, fault: str) -> None:
        self._fault = fault
        raise _RefusedError
