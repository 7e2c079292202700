import asyncio
from collections.abc import Awaitable, Callable, MutableMapping
from email.utils import formatdate
from typing import Any

from tokenferry.sandbox._http import Answer

Message = MutableMapping[str, Any]
Receive = Callable[[], Awaitable[Message]]
Send = Callable[[Message], Awaitable[None]]

BODY_LIMIT = 32 * 1024 * 1024
CONNECTION = "connection"  # where the listener puts its protocol into the scope's state


class Line:
    """The connection of one request: reads the body, sends an answer, or cuts the connection."""

    def __init__(self, scope: Message, receive: Receive, send: Send, now: float) -> None:
        self._receive = receive
        self._send = send
        self._connection = scope["state"][CONNECTION]
        self._date = formatdate(now, usegmt=True)
        self.was_cut = False

    async def body(self) -> bytes | None:
        """Read the body; None if it is larger than `BODY_LIMIT`, or if the client left."""
        received = bytearray()
        size = 0
        while True:
            message = await self._receive()
            if message["type"] == "http.disconnect":
                return None
            size += len(message["body"])
            if size <= BODY_LIMIT:
                received += message["body"]
            if not message["more_body"]:
                return bytes(received) if size <= BODY_LIMIT else None

    async def gone(self) -> None:
        """Wait until the client is gone or the answer is complete."""
        while (await self._receive())["type"] != "http.disconnect":
            pass

    async def cut(self, *, flush: bool = False) -> None:
        """Close the connection without finishing the answer; `flush` still delivers what was sent."""
        self.was_cut = True
        if flush:
            self._connection.transport.close()
        else:
            self._connection.transport.abort()
        await self.gone()

    async def start(self, answer: Answer, *, length: int | None) -> None:
        fields = [("date", self._date), *answer.headers]
        if length is not None:
            fields.append(("content-length", str(length)))
        headers = [(name.encode(), value.encode("latin-1", "replace")) for name, value in fields]
        await self._send({"type": "http.response.start", "status": answer.status, "headers": headers})

    async def chunk(self, data: bytes) -> None:
        await self._send({"type": "http.response.body", "body": data, "more_body": True})

    async def end(self, data: bytes = b"") -> None:
        await self._send({"type": "http.response.body", "body": data})

    async def whole(self, answer: Answer) -> None:
        await self.start(answer, length=len(answer.body))
        await self.end(answer.body)


async def first(work: Awaitable[None], line: Line) -> bool:
    """Run `work` until it is done or the client is gone; return whether the client left first."""
    task = asyncio.ensure_future(work)
    gone = asyncio.ensure_future(line.gone())
    try:
        await asyncio.wait({task, gone}, return_when=asyncio.FIRST_COMPLETED)
        left = not task.done() and not line.was_cut
        if not left:
            await task
    finally:
        task.cancel()
        gone.cancel()
        await asyncio.wait({task, gone})
    return left
