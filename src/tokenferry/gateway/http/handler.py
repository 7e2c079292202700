from typing import Protocol

import msgspec

from tokenferry.gateway.http.errors import GatewayError
from tokenferry.gateway.http.headers import HeaderList
from tokenferry.gateway.http.request_head import RequestHead
from tokenferry.gateway.http.response_writer import AnswerWriter


class RequestLine(msgspec.Struct, frozen=True):
    """A request that the listener has read: validly framed, with one Host, and header names in lower case.

    `read` are its parsed headers. `address` is the client's, None over a Unix socket. `has_room` is False if the
    listener is at its limit of connections. `length` is the declared length of the body, in digits.
    """

    method: str
    target: bytes
    path: bytes
    headers: HeaderList
    read: RequestHead
    address: str | None
    has_room: bool
    length: bytes | None = None


class RequestHandler(Protocol):
    """Answers one request of a connection. The connection calls the handlers in the order of the requests."""

    @property
    def writer(self) -> AnswerWriter: ...

    def take(self, chunk: bytes, /) -> None:
        """Take a part of the request's body. It may be called before `proceed`."""

    def complete(self) -> None:
        """Mark the body as complete."""

    def proceed(self) -> None:
        """Continue, since it is the request's turn, or more of it has arrived."""

    def pause(self) -> None:
        """Stop writing until `resume`, since the client doesn't read."""

    def resume(self) -> None: ...

    def refuse(self, error: GatewayError, /) -> None:
        """Answer with the listener's own error, and close the connection. No answer has begun."""

    def disconnected(self) -> None:
        """Handle the client's disconnect."""
