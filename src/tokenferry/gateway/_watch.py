import asyncio
from types import TracebackType
from typing import Self

from tokenferry.gateway._request import ClientGone, Receive


class ClientWatch:
    """Cancels the block it encloses when the client goes away, and raises `ClientGone` in its place.

    For use once the request's body is read: what `receive` gives after that is the client's leaving.
    """

    def __init__(self, receive: Receive) -> None:
        self._receive = receive
        self._gone = False
        self._task: asyncio.Task[object] | None = None
        self._watcher: asyncio.Task[None] | None = None

    async def __aenter__(self) -> Self:
        self._task = asyncio.current_task()
        self._watcher = asyncio.create_task(self._watch())
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, fault: BaseException | None, traceback: TracebackType | None
    ) -> None:
        assert self._task is not None
        assert self._watcher is not None
        self._watcher.cancel()
        if self._gone:
            self._task.uncancel()
            raise ClientGone from None

    async def _watch(self) -> None:
        assert self._task is not None
        while (await self._receive())["type"] != "http.disconnect":
            pass
        self._gone = True
        self._task.cancel()
