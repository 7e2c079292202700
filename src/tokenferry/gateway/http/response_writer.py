"""Writes an answer to the client in HTTP/1.1 framing."""

from collections.abc import Iterable
from http import HTTPStatus
from typing import Final, Protocol

_CONTINUE: Final = b"HTTP/1.1 100 Continue\r\n\r\n"
_END: Final = b"\r\n"
_CLOSE: Final = b"connection: close\r\n"
_CHUNKED: Final = b"transfer-encoding: chunked\r\n"
_LAST_CHUNK: Final = b"0\r\n\r\n"
_NO_CONTENT: Final = 204
_NOT_MODIFIED: Final = 304
_COPIED: Final = 16 * 1024


def _status_line(status: int) -> bytes:
    try:
        phrase = HTTPStatus(status).phrase
    except ValueError:
        phrase = ""
    return f"HTTP/1.1 {status} {phrase}\r\n".encode("ascii")


_STATUS_LINES: Final = {status: _status_line(status) for status in range(200, 600)}


class ClientTransport(Protocol):
    """A transport that takes an answer's bytes."""

    def write(self, data: bytes) -> None: ...
    def writelines(self, list_of_data: Iterable[bytes], /) -> None: ...


class ServerConnection(Protocol):
    """The connection of an answer."""

    @property
    def transport(self) -> ClientTransport: ...

    def answered(self, writer: "ResponseWriter") -> None:
        """Handle the end of an answer."""
        ...

    def cut(self) -> None: ...


class AnswerWriter(Protocol):
    """Writes one answer, to a connection or to a program in this process."""

    keep: bool
    """Whether the connection stays open. Set it before `start`."""

    @property
    def is_started(self) -> bool: ...
    @property
    def is_over(self) -> bool: ...
    @property
    def is_chunked(self) -> bool:
        """Whether the answer has no declared length."""
        ...

    @property
    def is_awaited(self) -> bool:
        """Whether the client waits for `100 Continue`. After another answer it may or may not send its body."""
        ...

    def go_on(self) -> None:
        """Let the client send the body, if it waits for `100 Continue`."""

    def start(self, status: int, lines: list[bytes], length: int | None, /) -> None:
        """Set the head: header lines, none about the connection, and the body's length if known."""

    def write(self, data: bytes, /) -> None:
        """Write a non-empty part of the body."""

    def end(self) -> None:
        """End the body. One that differs from its declared length is cut."""

    def cut(self) -> None:
        """Cut the answer. Bytes that were written are still sent."""


class ResponseWriter:
    """An `AnswerWriter` in HTTP/1.1 framing: with `content-length`, or else in chunks. Answers to HEAD have no body."""

    # Defaults of the class, which cost nothing per answer.
    is_started = is_over = is_chunked = False
    _left = 0
    _head = b""

    def __init__(self, connection: ServerConnection, *, to_head: bool, keep: bool, expects: bool) -> None:
        self._connection = connection
        self._to_head = self._bodiless = to_head
        self._expects = expects
        self.keep = keep
        """Whether the connection stays open. Set it before `start`."""

    def go_on(self) -> None:
        """Send `100 Continue` if the client waits for it."""
        if self._expects:
            self._expects = False
            self._connection.transport.write(_CONTINUE)

    @property
    def is_awaited(self) -> bool:
        """Whether the client waits for `100 Continue`. After another answer it may or may not send its body."""
        return self._expects

    def start(self, status: int, lines: list[bytes], length: int | None) -> None:
        """Set the head: header lines, none about the connection, and the body's length if known."""
        if self.is_over:
            return
        is_bodiless = self._to_head or status in (_NO_CONTENT, _NOT_MODIFIED)
        is_chunked = length is None and not is_bodiless
        if is_chunked:
            lines.append(_CHUNKED)
        if not self.keep:
            lines.append(_CLOSE)
        lines.append(_END)
        head = _STATUS_LINES[status] + b"".join(lines)
        line_ends = len(lines) + 1
        if head.count(b"\n") != line_ends or head.count(b"\r") != line_ends:
            raise ValueError("a header of an answer holds CR or LF")
        self.is_started, self.is_chunked, self._bodiless = True, is_chunked, is_bodiless
        self._left = 0 if length is None else length
        self._head = head

    def flush(self) -> None:
        """Write a pending head. It normally goes out with the body's first bytes, since each write is a system call."""
        head, self._head = self._head, b""
        if head and not self.is_over:
            self._connection.transport.write(head)

    def write(self, data: bytes) -> None:
        """Write a non-empty part of the body."""
        if self.is_over or self._bodiless:
            return
        head, self._head = self._head, b""
        if not self.is_chunked:
            self._left -= len(data)
            if not head:
                self._connection.transport.write(data)
            elif len(data) <= _COPIED:
                self._connection.transport.write(head + data)
            else:
                self._connection.transport.writelines((head, data))
        elif len(data) <= _COPIED:
            self._connection.transport.write(b"%b%x\r\n%b\r\n" % (head, len(data), data))
        else:
            self._connection.transport.writelines((b"%b%x\r\n" % (head, len(data)), data, b"\r\n"))

    def end(self) -> None:
        """End the body. One that differs from its declared length ends the connection."""
        if self.is_over:
            return
        if self.is_chunked and not self._bodiless:
            self._connection.transport.write(self._head + _LAST_CHUNK)
        else:
            if self._head:
                self.flush()
            if self._left and not self._bodiless:
                self.cut()
                return
        self.is_over = True
        self._connection.answered(self)

    def cut(self) -> None:
        """Close the connection without ending the answer. Bytes that were written are still sent."""
        if not self.is_over:
            self.flush()
            self.is_over = True
            self._connection.cut()
