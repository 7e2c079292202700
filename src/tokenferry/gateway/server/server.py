import asyncio
import contextlib
import signal
import socket
import sys
import threading
from collections.abc import Callable, Iterator, Sequence
from functools import partial
from ssl import SSLContext
from types import FrameType
from typing import Any, Final

from tokenferry.gateway.app import Gateway
from tokenferry.gateway.server.connection import HEAD_SECONDS, ClientConnection, Connections
from tokenferry.gateway.server.lifespan import BaseLifespan, Lifespan
from tokenferry.gateway.workers.supervisor import SIG_FORCE, WorkerSlot

_SIGNALS: Final = tuple(
    getattr(signal, name) for name in ("SIGINT", "SIGTERM", "SIGHUP", "SIGBREAK") if hasattr(signal, name)
)
_HANGUP: Final = getattr(signal, "SIGHUP", None)
_CONNECTIONS: Final = 900
_BACKLOG: Final = 2048
_TICK: Final = 0.1
_TICKS_PER_SECOND: Final = 10
_TICKS_PER_MINUTE: Final = 600
_POLL: Final = 0.02
_FLUSH_SECONDS: Final = 1.0
_SETTLE_ROUNDS: Final = 5
# On Python 3.13 a server removes its Unix socket when it closes, though other workers may listen on it.
_KEEP_SOCKET: Final[dict[str, Any]] = {"cleanup_socket": False} if sys.version_info >= (3, 13) else {}


class Server:
    """Serves a gateway on listening sockets until a signal or `stop` ends it. `tls` applies to TCP sockets.

    INT, TERM and HUP, unless ignored, and the end of a worker's `supervisor` end it gracefully. For `delay` seconds it
    accepts requests but reports that it isn't ready. Then it stops listening, and running requests have `drain` seconds
    before they are ended. After a second signal it doesn't wait for answers. `connections` limits the number of
    connections plus requests in flight. `lifespan` is called at each of these steps.
    """

    def __init__(
        self,
        gateway: Gateway,
        sockets: Sequence[socket.socket],
        *,
        drain: float,
        delay: float = 0.0,
        tls: SSLContext | None = None,
        connections: int = _CONNECTIONS,
        supervisor: WorkerSlot | None = None,
        lifespan: Lifespan | None = None,
    ) -> None:
        self.connections = Connections(connections)
        self._gateway = gateway
        self._protocol = partial(ClientConnection, gateway, self.connections)
        self._servers: list[asyncio.base_events.Server] = []
        self._is_stopped = self._is_forced = False
        self._loop: asyncio.AbstractEventLoop | None = None
        self._stop_event = asyncio.Event()
        """Set by `stop` on the loop, to end the wait for the next tick."""
        self._ticks = 0
        self._sockets = sockets
        self._drain = drain
        self._delay = delay
        self._tls = tls
        self._supervisor = supervisor
        self._lifespan: Lifespan = lifespan or BaseLifespan()
        self._minutely: asyncio.Future[None] | None = None
        self.ended_by: signal.Signals | None = None

    def run_until_stopped(self) -> signal.Signals | None:
        """Serve in this thread, and give the signal that ended it. Handles signals only in the main thread."""
        try:
            with asyncio.Runner(loop_factory=_loop_factory()) as runner:
                runner.run(self.serve())
        finally:
            self._gateway.settle()  # aborted connections have added their records since
        return self.ended_by

    def drain_for(self, seconds: float, delay: float = 0.0) -> None:
        """Set the seconds for running requests after the end begins, and for accepting new ones before that."""
        self._drain, self._delay = seconds, delay

    def stop(self) -> None:
        """End the server gracefully. May be called from any thread."""
        self._is_stopped = True
        if self._loop is not None:
            with contextlib.suppress(RuntimeError):  # the loop is closed already
                self._loop.call_soon_threadsafe(self._stop_event.set)

    async def serve(self) -> None:
        """Serve until the server is ended."""
        try:
            self._loop = asyncio.get_running_loop()
            with self._signals():
                await self._start()
                await self._tick_until(lambda: self._is_stopped)
                await self._end()
        finally:
            self._gateway.settle()

    async def _tick_until(self, is_over: Callable[[], bool]) -> None:
        while not is_over():
            self.tick(self._ticks)
            self._ticks += 1
            with contextlib.suppress(TimeoutError):
                async with asyncio.timeout(_TICK):
                    await self._stop_event.wait()
            self._stop_event.clear()

    async def _start(self) -> None:
        loop = asyncio.get_running_loop()
        self._servers = [await self._listen(loop, sock) for sock in self._sockets]
        if self._supervisor is not None:
            loop.add_reader(self._supervisor.lifeline, self._end_alone)
        await self._lifespan.started()
        self._gateway.phase = "serving"

    async def _listen(self, loop: asyncio.AbstractEventLoop, sock: socket.socket) -> asyncio.base_events.Server:
        protocol = self._protocol
        if sock.family == socket.AF_UNIX:
            server = await loop.create_unix_server(protocol, sock=sock, backlog=_BACKLOG, **_KEEP_SOCKET)
        else:
            patience = None if self._tls is None else HEAD_SECONDS
            server = await loop.create_server(
                protocol, sock=sock, ssl=self._tls, ssl_handshake_timeout=patience, backlog=_BACKLOG
            )
        return server

    def tick(self, counter: int) -> None:
        """Run periodic work. Call it ten times a second with an increasing counter."""
        if counter % _TICKS_PER_SECOND == 0:
            self._expire()
            self._lifespan.every_second()
        is_due = counter % _TICKS_PER_MINUTE == _TICKS_PER_MINUTE - 1
        if is_due and (self._minutely is None or self._minutely.done()):
            # As a task, since a disk that hangs must not delay the end.
            self._minutely = asyncio.ensure_future(self._lifespan.every_minute())

    async def _end(self) -> None:
        """End the server in the steps that the class describes."""
        self._gateway.phase = "draining"
        begun = asyncio.get_running_loop().time()
        await self._tick_until(lambda: self._is_forced or asyncio.get_running_loop().time() >= begun + self._delay)
        await asyncio.to_thread(self._lifespan.ending)
        await self._accept_the_last()
        self.connections.is_ending = True
        for connection in list(self.connections.all):
            connection.shutdown()
        await self._wait_for_answers()
        await self._lifespan.finish()
        for connection in list(self.connections.all):
            connection.give_up()
        tasks = list(self.connections.tasks)
        await self._flush()
        for task in tasks:
            task.cancel()
        for connection in list(self.connections.all):
            connection.transport.abort()
        await asyncio.gather(*tasks, return_exceptions=True)
        if not self._is_forced:
            await self._lifespan.last()

    @contextlib.contextmanager
    def _signals(self) -> Iterator[None]:
        if threading.current_thread() is not threading.main_thread():
            yield
            return
        numbers = _SIGNALS if self._supervisor is None else (*_SIGNALS, SIG_FORCE)
        taken = [number for number in numbers if signal.getsignal(number) is not signal.SIG_IGN]
        previous = {number: signal.signal(number, self._handle) for number in taken}
        try:
            yield
        finally:
            if self._supervisor is None:  # the default handlers could kill a worker during a refresh
                for number, handler in previous.items():
                    signal.signal(number, handler or signal.SIG_DFL)

    def _handle(self, sig: int, _: FrameType | None) -> None:
        if sig == _HANGUP and self._lifespan.hang_up():
            return
        if self._is_stopped or sig == SIG_FORCE:
            self._is_forced = True
        self.ended_by = self.ended_by or signal.Signals(sig)
        self.stop()

    def _end_alone(self) -> None:
        """End this worker, since its supervisor is gone."""
        assert self._supervisor is not None
        asyncio.get_running_loop().remove_reader(self._supervisor.lifeline)
        self.stop()

    async def _accept_the_last(self) -> None:
        """Stop listening, but accept the connections in the backlog, which would be reset otherwise."""
        loop = asyncio.get_running_loop()
        # asyncio needs some rounds of the loop to set up an accepted connection, and drops it if the server is closed.
        for sock in self._sockets:
            loop.remove_reader(sock.fileno())
        for _ in range(_SETTLE_ROUNDS):
            await asyncio.sleep(0)
        accepted = [connection for sock in self._sockets for connection in _accepted(sock)]
        for server in self._servers:
            server.close()
        for sock in self._sockets:
            sock.close()
        taken = [loop.create_task(self._take(connection)) for connection in accepted]
        if taken:
            await asyncio.wait(taken, timeout=_FLUSH_SECONDS)

    async def _take(self, connection: socket.socket) -> None:
        tls = None if connection.family == socket.AF_UNIX else self._tls
        patience = None if tls is None else HEAD_SECONDS
        with contextlib.suppress(OSError):
            await asyncio.get_running_loop().connect_accepted_socket(
                self._protocol, connection, ssl=tls, ssl_handshake_timeout=patience
            )

    async def _wait_for_answers(self) -> None:
        loop = asyncio.get_running_loop()
        end = loop.time() + self._drain
        shown, next_look = "", loop.time()
        while self.connections.all and loop.time() < end:
            if self._is_forced:
                self._lifespan.tell("second signal: ending streams with an error")
                break
            if loop.time() >= next_look:
                next_look = loop.time() + 1
                self._expire()
                text = self._outstanding()
                if text != shown:
                    shown = text
                    self._lifespan.tell(text)
            await asyncio.sleep(_POLL)

    async def _flush(self) -> None:
        """Wait a moment until everything written is sent and all tasks have ended."""
        loop = asyncio.get_running_loop()
        end = loop.time() + _FLUSH_SECONDS
        connections = self.connections
        while connections.tasks or any(one.transport.is_closing() for one in connections.all):
            if loop.time() >= end:
                break
            await asyncio.sleep(_POLL)

    def _outstanding(self) -> str:
        streams = sum(connection.is_streaming for connection in list(self.connections.all))
        requests = self.connections.in_flight - streams
        counted = ((requests, "request"), (streams, "stream"))
        parts = [f"{number} {word}{'s' * (number > 1)}" for number, word in counted if number > 0]
        if not parts:
            number = len(self.connections.all)
            parts = [f"{number} connection{'s' * (number > 1)} with data in transit"]
        listed = ", ".join((*parts, *self._lifespan.waiting_for()))
        return f"waiting for {listed}; at most {self._drain:g} s, or until a second signal"

    def _expire(self) -> None:
        now = asyncio.get_running_loop().time()
        for connection in list(self.connections.all):
            connection.expire(now)


def _loop_factory() -> Callable[[], asyncio.AbstractEventLoop] | None:
    """Give uvloop's factory if it is installed; None for asyncio's own loop."""
    try:
        import uvloop  # noqa: PLC0415  # optional
    except ImportError:
        return None
    return uvloop.new_event_loop


def _accepted(sock: socket.socket) -> Iterator[socket.socket]:
    """Accept the connections in a listening socket's backlog."""
    while True:
        try:
            connection, _ = sock.accept()
        except OSError:  # the backlog is empty, or too many files are open
            return
        connection.setblocking(False)
        yield connection
