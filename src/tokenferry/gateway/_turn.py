from typing import NamedTuple, Protocol

from tokenferry.gateway._answering import Answering
from tokenferry.gateway._answers import Refusal
from tokenferry.gateway._headers import HeaderList
from tokenferry.gateway._request_head import RequestHead


class Head(NamedTuple):
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


class Turn(Protocol):
    """A request on a connection, and what answers it. The listener calls it in its turn, one after the other."""

    answering: Answering

    def take(self, chunk: bytes, /) -> None:
        """Take a part of the request's body; also before its turn has come."""

    def complete(self) -> None:
        """Learn that the body is whole."""

    def proceed(self) -> None:
        """Go on: it is the request's turn, and perhaps more of it has come."""

    def pause(self) -> None:
        """Write no more for now: the client doesn't read."""

    def resume(self) -> None: ...

    def refuse(self, refusal: Refusal, /) -> None:
        """End it with an answer of the listener's own, after which the connection closes. Nothing was answered yet."""

    def gone(self) -> None:
        """Learn that the client has gone, or that the connection was cut."""
