import asyncio
import contextlib
import signal
import socket
import threading
from collections.abc import Awaitable, Callable, Iterator
from types import FrameType
from typing import Final, cast

import uvicorn

from tokenferry.gateway._app import Gateway
from tokenferry.gateway._protocol import StrictProtocol

_SIGNALS: Final = tuple(
    getattr(signal, name) for name in ("SIGINT", "SIGTERM", "SIGHUP", "SIGBREAK") if hasattr(signal, name)
)
GRACE: Final = 5.0
_KEEP_ALIVE: Final = 75
_TICKS_PER_SECOND: Final = 10
_TICKS_PER_MINUTE: Final = 600
_POLL: Final = 0.02
_LAST_WORDS: Final = 1.0


async def _nothing() -> None:
    pass


class Listener(uvicorn.Server):
    """Serves a gateway on a socket until a signal or `stop` ends it.

    INT, TERM and HUP end it gracefully: no new connections, answers under way have `grace` seconds, then `finish` is
    awaited, which must end what is left, then `last`. After a second signal neither answers nor `last` are waited for.
    """

    def __init__(
        self,
        gateway: Gateway,
        sock: socket.socket,
        *,
        started: Callable[[], Awaitable[None]] = _nothing,
        every_minute: Callable[[], Awaitable[None]] | None = None,
        finish: Callable[[], Awaitable[None]] = _nothing,
        last: Callable[[], Awaitable[None]] = _nothing,
        grace: float = GRACE,
    ) -> None:
        super().__init__(
            uvicorn.Config(
                gateway,
                interface="asgi3",
                http=StrictProtocol,
                ws="none",
                lifespan="off",
                workers=1,
                log_config=None,
                log_level="warning",
                access_log=False,
                proxy_headers=False,
                server_header=False,
                date_header=False,
                timeout_keep_alive=_KEEP_ALIVE,
            )
        )
        self._sock = sock
        self._started = started
        self._every_minute = every_minute or _nothing
        self._finish = finish
        self._last = last
        self._grace = grace
        self.ended_by: signal.Signals | None = None

    def run_until_stopped(self) -> signal.Signals | None:
        """Serve in this thread; give the signal that ended it, if one did. In the main thread signals are handled."""
        with asyncio.Runner(loop_factory=self.config.get_loop_factory()) as runner:
            runner.run(self.serve(sockets=[self._sock]))
        return self.ended_by

    def stop(self) -> None:
        """End it gracefully; from any thread."""
        self.should_exit = True

    async def startup(self, sockets: list[socket.socket] | None = None) -> None:
        await super().startup(sockets)
        await self._started()

    async def on_tick(self, counter: int) -> bool:
        if counter % _TICKS_PER_SECOND == 0:
            now = asyncio.get_running_loop().time()
            for connection in self._connections():
                connection.expire(now)
        if counter % _TICKS_PER_MINUTE == _TICKS_PER_MINUTE - 1:
            await self._every_minute()
        return await super().on_tick(counter)

    async def shutdown(self, sockets: list[socket.socket] | None = None) -> None:
        """End it as the class says. uvicorn's own leaves connections open that nobody finishes."""
        for server in self.servers:
            server.close()
        for sock in sockets or []:
            sock.close()
        for connection in self._connections():
            connection.shutdown()
        await self._wait_for_answers(self._grace)
        await self._finish()
        tasks = list(self.server_state.tasks)
        if tasks:
            await asyncio.wait(tasks, timeout=_LAST_WORDS)
        for task in tasks:
            task.cancel()
        for connection in self._connections():
            connection.transport.abort()
        await asyncio.gather(*tasks, return_exceptions=True)
        if not self.force_exit:
            await self._last()

    @contextlib.contextmanager
    def capture_signals(self) -> Iterator[None]:
        if threading.current_thread() is not threading.main_thread():
            yield
            return
        previous = {number: signal.signal(number, self.handle_exit) for number in _SIGNALS}
        try:
            yield
        finally:
            for number, handler in previous.items():
                signal.signal(number, handler or signal.SIG_DFL)

    def handle_exit(self, sig: int, frame: FrameType | None) -> None:  # noqa: ARG002  # the signature is uvicorn's
        if self.should_exit:
            self.force_exit = True
        self.ended_by = self.ended_by or signal.Signals(sig)
        self.should_exit = True

    async def _wait_for_answers(self, seconds: float) -> None:
        loop = asyncio.get_running_loop()
        end = loop.time() + seconds
        while self.server_state.tasks and not self.force_exit and loop.time() < end:
            await asyncio.wait(self.server_state.tasks, timeout=_POLL)

    def _connections(self) -> list[StrictProtocol]:
        return [cast("StrictProtocol", connection) for connection in self.server_state.connections]
