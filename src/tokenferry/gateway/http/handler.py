from typing import Protocol

import msgspec

from tokenferry.gateway.http.errors import GatewayError
from tokenferry.gateway.http.headers import HeaderList
from tokenferry.gateway.http.request_head import RequestHead
from tokenferry.gateway.http.response_writer import AnswerWriter


class RequestLine(msgspec.Struct, frozen=True):
    """A request as the listener has read it: framed soundly, with one Host, and lower-case names.

    `read` is what its headers say.

    `address` is the client's, None over a Unix socket. `has_room` tells whether the listener has as few connections
    as it may.
    """

    method: str
    target: bytes
    path: bytes
    headers: HeaderList
    read: RequestHead
    address: str | None
    has_room: bool


class RequestHandler(Protocol):
    """Answers one request of a connection. The connection calls one after the other, in the requests' order."""

    @property
    def writer(self) -> AnswerWriter: ...

    def take(self, chunk: bytes, /) -> None:
        """Take a part of the request's body; also before `proceed`."""

    def complete(self) -> None:
        """Learn that the body is whole."""

    def proceed(self) -> None:
        """Go on: it is the request's turn, and perhaps more of it has come."""

    def pause(self) -> None:
        """Write no more for now: the client doesn't read."""

    def resume(self) -> None: ...

    def refuse(self, error: GatewayError, /) -> None:
        """End it with an answer of the listener's own, after which the connection closes. Nothing was answered yet."""

    def disconnected(self) -> None:
        """The client has left, or the connection was cut."""
