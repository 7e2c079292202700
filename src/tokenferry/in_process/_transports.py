"""httpx2 transports that send through the gateway in this process."""

import asyncio
import contextlib
from collections.abc import AsyncIterator, Iterator
from queue import Empty, SimpleQueue
from typing import Any, Final

import httpx2

from tokenferry.errors import TokenferryError
from tokenferry.in_process._address import program_request
from tokenferry.in_process._call import AnswerHead, AnswerMark, Item, ProgramCall
from tokenferry.in_process._shared import SharedGateway
from tokenferry.integrations import for_sdks
from tokenferry.settings import Home

_EXTENSIONS: Final = {"http_version": b"HTTP/1.1"}
_CUT: Final = "the answer was cut: the upstream or the gateway ended before it was complete"
_LATE: Final = "no answer arrived within this client's read timeout"


class Transport(httpx2.BaseTransport):
    """Sends the requests of an `httpx2.Client`, or of an SDK that uses one, through this process's gateway.

    It is thread-safe. Requests to other hosts than declared providers' and the SDKs' defaults raise `UsageError`.
    """

    def __init__(self, home: Home, account: str | None) -> None:
        self._gateway = SharedGateway(home, account)

    def handle_request(self, request: httpx2.Request) -> httpx2.Response:
        """Raises `UsageError` for a request that isn't routed, and `httpx2`'s errors for a cut or late answer."""
        body = request.read()
        items: SimpleQueue[Item] = SimpleQueue()
        try:
            gateway = self._gateway.get()
            call = ProgramCall(gateway, program_request(gateway, request, body), items.put)
        except TokenferryError as fault:
            raise for_sdks(fault) from None
        answer = _Answer(call, items, _read_timeout(request))
        call.start()
        head = answer.next()
        if not isinstance(head, AnswerHead):
            raise httpx2.RemoteProtocolError(_CUT)
        return httpx2.Response(head.status, headers=head.headers, stream=answer, extensions=_EXTENSIONS)

    def close(self) -> None:
        """Close the transport. The last one of a home stops its gateway: open requests are cut, usage is written."""
        self._gateway.close()


class _Answer(httpx2.SyncByteStream):
    def __init__(self, call: ProgramCall, items: "SimpleQueue[Item]", timeout: float | None) -> None:
        self._call = call
        self._items = items
        self._timeout = timeout

    def next(self) -> AnswerHead | bytes | AnswerMark:
        try:
            while (item := self._items.get(timeout=self._timeout)) is AnswerMark.PAUSED:
                self._call.resume()
        except Empty:
            self._call.cancel()
            raise httpx2.ReadTimeout(_LATE) from None
        except BaseException:
            self._call.cancel()
            raise
        if isinstance(item, BaseException):
            raise item
        return item

    def __iter__(self) -> Iterator[bytes]:
        while isinstance(item := self.next(), bytes):
            yield item
        if item is not AnswerMark.END:
            raise httpx2.RemoteProtocolError(_CUT)

    def close(self) -> None:
        self._call.cancel()


class AsyncTransport(httpx2.AsyncBaseTransport):
    """Sends the requests of an `httpx2.AsyncClient` on asyncio; several event loops may share it. See `Transport`."""

    def __init__(self, home: Home, account: str | None) -> None:
        self._gateway = SharedGateway(home, account)

    async def handle_async_request(self, request: httpx2.Request) -> httpx2.Response:
        """As `Transport.handle_request`. Cancelling it also ends the request upstream."""
        body = await request.aread()
        loop = asyncio.get_running_loop()
        items: asyncio.Queue[Item] = asyncio.Queue()

        def deliver(item: Item) -> None:
            with contextlib.suppress(RuntimeError):  # the program's loop has ended
                loop.call_soon_threadsafe(items.put_nowait, item)

        try:
            gateway = self._gateway.running
            if gateway is None:
                gateway = await asyncio.to_thread(self._gateway.get)
            call = ProgramCall(gateway, program_request(gateway, request, body), deliver)
        except TokenferryError as fault:
            raise for_sdks(fault) from None
        answer = _AsyncAnswer(call, items, _read_timeout(request))
        call.start()
        head = await answer.next()
        if not isinstance(head, AnswerHead):
            raise httpx2.RemoteProtocolError(_CUT)
        return httpx2.Response(head.status, headers=head.headers, stream=answer, extensions=_EXTENSIONS)

    async def aclose(self) -> None:
        """As `Transport.close`."""
        await asyncio.to_thread(self.close)

    def close(self) -> None:
        """Close the transport without an event loop. It blocks until the gateway's thread has ended."""
        self._gateway.close()


class _AsyncAnswer(httpx2.AsyncByteStream):
    def __init__(self, call: ProgramCall, items: "asyncio.Queue[Item]", timeout: float | None) -> None:
        self._call = call
        self._items = items
        self._timeout = timeout

    async def next(self) -> AnswerHead | bytes | AnswerMark:
        try:
            async with asyncio.timeout(self._timeout):
                while (item := await self._items.get()) is AnswerMark.PAUSED:
                    self._call.resume()
        except TimeoutError:
            self._call.cancel()
            raise httpx2.ReadTimeout(_LATE) from None
        except BaseException:
            self._call.cancel()
            raise
        if isinstance(item, BaseException):
            raise item
        return item

    async def __aiter__(self) -> AsyncIterator[bytes]:
        while isinstance(item := await self.next(), bytes):
            yield item
        if item is not AnswerMark.END:
            raise httpx2.RemoteProtocolError(_CUT)

    async def aclose(self) -> None:
        self._call.cancel()


def _read_timeout(request: httpx2.Request) -> float | None:
    given: dict[str, Any] = request.extensions.get("timeout", {})
    timeout: float | None = given.get("read")
    return timeout
