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
_LAST_WORDS: Final = 1.0
_SETTLE_ROUNDS: Final = 5
# On Python 3.13 a server removes its Unix socket when it closes, though other workers may listen on it.
_KEEP_SOCKET: Final[dict[str, Any]] = {"cleanup_socket": False} if sys.version_info >= (3, 13) else {}


class Server:
    """Serves a gateway on listening sockets until a signal or `stop` ends it. `tls` is for those that aren't Unix ones.

    INT, TERM and HUP, as far as they aren't ignored, and the end of a worker's `supervisor` end it gracefully: for
    `delay` seconds it takes requests and says that it isn't ready, then there are no new connections, requests that
    have reached it have `drain` seconds, then what is left is ended. After a second signal answers are not waited for.
    `connections` limits them: each of them, and each request in flight, counts. `lifespan` takes part in all of that.
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
        self._is_told = self._is_told_again = False
        self._loop: asyncio.AbstractEventLoop | None = None
        self._shown = asyncio.Event()
        """Set on the loop after `_is_told`: the next tick isn't waited for."""
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
        """Serve in this thread; give the signal that ended it, if one did. In the main thread signals are handled."""
        try:
            with asyncio.Runner(loop_factory=_loop_factory()) as runner:
                runner.run(self.serve())
        finally:
            self._gateway.settle()  # connections that were aborted at the very end have lost their requests since
        return self.ended_by

    def drain_for(self, seconds: float, delay: float = 0.0) -> None:
        """Set how long requests may go on after the server is asked to end, and how long new ones are taken before."""
        self._drain, self._delay = seconds, delay

    def stop(self) -> None:
        """End it gracefully; from any thread."""
        self._is_told = True
        if self._loop is not None:
            with contextlib.suppress(RuntimeError):  # it has ended, and its loop is closed
                self._loop.call_soon_threadsafe(self._shown.set)

    async def serve(self) -> None:
        """Serve until it is ended."""
        try:
            self._loop = asyncio.get_running_loop()
            with self._signals():
                await self._start()
                await self._tick_until(lambda: self._is_told)
                await self._end()
        finally:
            self._gateway.settle()

    async def _tick_until(self, is_over: Callable[[], bool]) -> None:
        while not is_over():
            self.tick(self._ticks)
            self._ticks += 1
            with contextlib.suppress(TimeoutError):
                async with asyncio.timeout(_TICK):
                    await self._shown.wait()
            self._shown.clear()

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
        """Do what is due; to be called ten times a second, with a number that grows by one each time."""
        if counter % _TICKS_PER_SECOND == 0:
            self._expire()
            self._lifespan.every_second()
        is_due = counter % _TICKS_PER_MINUTE == _TICKS_PER_MINUTE - 1
        if is_due and (self._minutely is None or self._minutely.done()):
            # On its own, for a disk that hangs must not hold up the end.
            self._minutely = asyncio.ensure_future(self._lifespan.every_minute())

    async def _end(self) -> None:
        """End it as the class says."""
        self._gateway.phase = "draining"
        begun = asyncio.get_running_loop().time()
        await self._tick_until(lambda: self._is_told_again or asyncio.get_running_loop().time() >= begun + self._delay)
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
        await self._last_words()
        for task in tasks:
            task.cancel()
        for connection in list(self.connections.all):
            connection.transport.abort()
        await asyncio.gather(*tasks, return_exceptions=True)
        if not self._is_told_again:
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
            if self._supervisor is None:  # a worker's own would end it, in the middle of a refresh perhaps
                for number, handler in previous.items():
                    signal.signal(number, handler or signal.SIG_DFL)

    def _handle(self, sig: int, _: FrameType | None) -> None:
        if sig == _HANGUP and self._lifespan.hang_up():
            return
        if self._is_told or sig == SIG_FORCE:
            self._is_told_again = True
        self.ended_by = self.ended_by or signal.Signals(sig)
        self.stop()

    def _end_alone(self) -> None:
        """The supervisor is gone, so no signal will end this worker."""
        assert self._supervisor is not None
        asyncio.get_running_loop().remove_reader(self._supervisor.lifeline)
        self.stop()

    async def _accept_the_last(self) -> None:
        """Stop listening, and take in the connections that the system has made for us: they would be reset."""
        loop = asyncio.get_running_loop()
        # asyncio makes a connection of what it accepts some rounds later, and drops it if the server is closed by then.
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
            await asyncio.wait(taken, timeout=_LAST_WORDS)

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
            if self._is_told_again:
                self._lifespan.tell("second signal: streams end with an error now")
                break
            if loop.time() >= next_look:
                next_look = loop.time() + 1
                self._expire()
                text = self._outstanding()
                if text != shown:
                    shown = text
                    self._lifespan.tell(text)
            await asyncio.sleep(_POLL)

    async def _last_words(self) -> None:
        """Wait until what was written has gone out, and tasks have taken note, but not for long."""
        loop = asyncio.get_running_loop()
        end = loop.time() + _LAST_WORDS
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
            parts = [f"{number} connection{'s' * (number > 1)} with a request or an answer on the way"]
        listed = ", ".join((*parts, *self._lifespan.waiting_for()))
        return f"waiting for {listed}; {self._drain:g} s at most, or until a second signal"

    def _expire(self) -> None:
        now = asyncio.get_running_loop().time()
        for connection in list(self.connections.all):
            connection.expire(now)


def _loop_factory() -> Callable[[], asyncio.AbstractEventLoop] | None:
    """Uvloop where there is one, else asyncio's own."""
    try:
        import uvloop  # noqa: PLC0415  # not everywhere
    except ImportError:
        return None
    return uvloop.new_event_loop


def _accepted(sock: socket.socket) -> Iterator[socket.socket]:
    """Accept what waits at a listening socket."""
    while True:
        try:
            connection, _ = sock.accept()
        except OSError:  # nothing waits, or no more can be opened
            return
        connection.setblocking(False)
        yield connection
