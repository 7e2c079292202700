"""Upstream calls as coroutines, for tests: a sink that buffers what comes, and stalls the peer above a limit."""

import asyncio
from collections import deque
from collections.abc import AsyncIterator, Sequence

from tokenferry.upstream import BadAnswer, Body, Call, ResponseHead, UpstreamClient, UpstreamClosed, UpstreamError

BUFFER_LIMIT = 64 * 1024
"""Above so many unread bytes the upstream is paused; one read may overshoot by 256 KiB."""


class Response:
    """An answer whose head has come. Call `abort()` in a `finally`: unread and not aborted, it keeps its connection.

    One task reads at a time. Cancelling a read loses nothing: the next one goes on.
    """

    status: int
    headers: list[tuple[bytes, bytes]]

    def __init__(self, host: str) -> None:
        self._host = host
        self._call: Call | None = None
        self._chunks: deque[bytes] = deque()
        self._buffered = 0
        self._paused = False
        self._ended = False
        self._failure: UpstreamError | None = None
        self._has_head = False
        self._waiter: asyncio.Future[None] | None = None

    async def start(self, call: Call) -> None:
        """Wait for the head. Cancelled, it aborts the call."""
        self._call = call
        try:
            while not self._has_head:
                await self._wait()
        except BaseException:
            call.abort()
            raise

    def body(self) -> AsyncIterator[bytes]:
        """Iterate over the rest of the body, as sent, without its framing. Raises `UpstreamError` where it is cut."""
        return self

    async def read(self, limit: int) -> bytes:
        """Return the whole body; raise `BadAnswer` and abort above `limit` bytes."""
        chunks: list[bytes] = []
        size = 0
        async for chunk in self:
            size += len(chunk)
            if size > limit:
                self.abort()
                raise BadAnswer(self._host, f"a body of more than {limit} bytes", after_head=True)
            chunks.append(chunk)
        return b"".join(chunks)

    def abort(self) -> None:
        """Close the connection at once, unless the answer has come in full; drop what is unread."""
        self._chunks.clear()
        self._buffered = 0
        if self._ended or self._failure is not None:
            return
        self._failure = UpstreamClosed(self._host, sent=True, answered=self._has_head)
        if self._call is not None:
            self._call.abort()
        self._wake()

    def __aiter__(self) -> AsyncIterator[bytes]:
        return self

    async def __anext__(self) -> bytes:
        while not self._chunks:
            if self._ended:
                raise StopAsyncIteration
            await self._wait()
        chunk = self._chunks.popleft()
        self._buffered -= len(chunk)
        if self._paused and not self._chunks and self._call is not None:
            self._paused = False
            self._call.resume()
        return chunk

    def on_head(self, head: ResponseHead) -> None:
        self.status, self.headers = head.status, head.headers
        self._has_head = True
        self._wake()

    def on_body(self, chunk: bytes) -> None:
        self._chunks.append(chunk)
        self._buffered += len(chunk)
        if self._buffered > BUFFER_LIMIT and not self._paused and self._call is not None:
            self._paused = True
            self._call.pause()
        self._wake()

    def on_end(self) -> None:
        self._ended = True
        self._wake()

    def on_failure(self, failure: UpstreamError) -> None:
        self._failure = failure
        self._wake()

    async def _wait(self) -> None:
        if self._failure is not None:
            raise self._failure
        if self._waiter is not None:
            raise RuntimeError("an answer is read by one task at a time")
        self._waiter = asyncio.get_running_loop().create_future()
        try:
            await self._waiter
        finally:
            self._waiter = None

    def _wake(self) -> None:
        if self._waiter is not None and not self._waiter.done():
            self._waiter.set_result(None)


async def fetch(
    upstream: UpstreamClient,
    method: str = "GET",
    target: bytes = b"/",
    headers: Sequence[tuple[bytes, bytes]] = (),
    body: Body = b"",
    *,
    stream: bool = False,
) -> Response:
    """Send, and wait for the response's head. Raises `UpstreamError`."""
    response = Response(upstream.host)
    try:
        call = upstream.send(method, target, headers, body, response, stream=stream)
    finally:
        del headers, body
    await response.start(call)
    return response
