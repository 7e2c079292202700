import asyncio
import contextlib
import signal
import socket
import sys
import threading
from collections.abc import Awaitable, Callable, Iterable, Iterator, Sequence
from functools import partial
from ssl import SSLContext
from types import FrameType
from typing import Any, Final, cast

import uvicorn

from tokenferry.gateway._app import Gateway
from tokenferry.gateway._protocol import HEAD_SECONDS, Connections, StrictProtocol
from tokenferry.gateway._supervisor import AT_ONCE, Place

_SIGNALS: Final = tuple(
    getattr(signal, name) for name in ("SIGINT", "SIGTERM", "SIGHUP", "SIGBREAK") if hasattr(signal, name)
)
_CONNECTIONS: Final = 900
_BACKLOG: Final = 2048
_KEEP_ALIVE: Final = 75
_TICKS_PER_SECOND: Final = 10
_TICKS_PER_MINUTE: Final = 600
_POLL: Final = 0.02
_LAST_WORDS: Final = 1.0
_SETTLE_ROUNDS: Final = 5
# On Python 3.13 a server removes its Unix socket when it closes, though other workers may listen on it.
_KEEP_SOCKET: Final[dict[str, Any]] = {"cleanup_socket": False} if sys.version_info >= (3, 13) else {}


async def _nothing() -> None:
    pass


async def _ended(tasks: Sequence[asyncio.Task[None]]) -> None:
    """Wait for them, but not for long."""
    if tasks:
        await asyncio.wait(tasks, timeout=_LAST_WORDS)


class Listener(uvicorn.Server):
    """Serves a gateway on listening sockets until a signal or `stop` ends it. `tls` is for those that aren't Unix ones.

    INT, TERM and HUP, as far as they aren't ignored, and the end of a worker's `supervisor` end it gracefully: no new
    connections, requests that have reached it have `drain` seconds, then `finish` is awaited, which must end what is
    left, then `last`. After a second signal neither answers nor `last` are waited for. `tell` gets a line whenever what
    is waited for changes, and must not wait itself; `waiting_for` names what else that is. `connections` limits them:
    each of them, and each request in flight, counts. `every_minute` may take its time.
    """

    def __init__(
        self,
        gateway: Gateway,
        sockets: Sequence[socket.socket],
        *,
        drain: float,
        tls: SSLContext | None = None,
        connections: int = _CONNECTIONS,
        supervisor: Place | None = None,
        started: Callable[[], Awaitable[None]] = _nothing,
        every_second: Callable[[], None] = lambda: None,
        every_minute: Callable[[], Awaitable[None]] = _nothing,
        finish: Callable[[], Awaitable[None]] = _nothing,
        last: Callable[[], Awaitable[None]] = _nothing,
        tell: Callable[[str], None] = lambda _: None,
        waiting_for: Callable[[], Iterable[str]] = tuple,
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
        self.server_state = self._shared = Connections(connections)
        self._protocol = partial(StrictProtocol, self.config, self._shared, {})
        self._sockets = sockets
        self._drain = drain
        self._tls = tls
        self._supervisor = supervisor
        self._started = started
        self._every_second = every_second
        self._every_minute = every_minute
        self._minutely: asyncio.Future[None] | None = None
        self._finish = finish
        self._last = last
        self._tell = tell
        self._waiting_for = waiting_for
        self.ended_by: signal.Signals | None = None

    def run_until_stopped(self) -> signal.Signals | None:
        """Serve in this thread; give the signal that ended it, if one did. In the main thread signals are handled."""
        with asyncio.Runner(loop_factory=self.config.get_loop_factory()) as runner:
            runner.run(self.serve())
        return self.ended_by

    def stop(self) -> None:
        """End it gracefully; from any thread."""
        self.should_exit = True

    async def startup(self, sockets: list[socket.socket] | None = None) -> None:  # noqa: ARG002  # they are known
        loop = asyncio.get_running_loop()
        self.servers = [await self._listen(loop, sock) for sock in self._sockets]
        self.started = True
        if self._supervisor is not None:
            loop.add_reader(self._supervisor.lifeline, self._end_alone)
        await self._started()

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

    async def on_tick(self, counter: int) -> bool:
        if counter % _TICKS_PER_SECOND == 0:
            self._expire()
            self._every_second()
        is_due = counter % _TICKS_PER_MINUTE == _TICKS_PER_MINUTE - 1
        if is_due and (self._minutely is None or self._minutely.done()):
            self._minutely = asyncio.ensure_future(self._every_minute())  # a disk that hangs must not hold up the end
        return await super().on_tick(counter)

    async def shutdown(self, sockets: list[socket.socket] | None = None) -> None:  # noqa: ARG002  # they are known
        """End it as the class says. uvicorn's own leaves connections open that nobody finishes."""
        await self._accept_the_last()
        self._shared.is_ending = True
        for connection in self._connections():
            connection.shutdown()
        await self._wait_for_answers()
        await self._finish()
        tasks = list(self._shared.tasks)
        await _ended(tasks)
        for connection in self._connections():
            connection.give_up()
        await _ended(tasks)  # each learns that its client was answered, and is recorded so
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
        numbers = _SIGNALS if self._supervisor is None else (*_SIGNALS, AT_ONCE)
        taken = [number for number in numbers if signal.getsignal(number) is not signal.SIG_IGN]
        previous = {number: signal.signal(number, self.handle_exit) for number in taken}
        try:
            yield
        finally:
            if self._supervisor is None:  # a worker's own would end it, in the middle of a refresh perhaps
                for number, handler in previous.items():
                    signal.signal(number, handler or signal.SIG_DFL)

    def handle_exit(self, sig: int, frame: FrameType | None) -> None:  # noqa: ARG002  # the signature is uvicorn's
        if self.should_exit or sig == AT_ONCE:
            self.force_exit = True
        self.ended_by = self.ended_by or signal.Signals(sig)
        self.should_exit = True

    def _end_alone(self) -> None:
        """The supervisor is gone; nobody would tell us to end."""
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
        for server in self.servers:
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
        told, next_look = "", loop.time()
        while (self._shared.tasks or self._shared.connections) and loop.time() < end:
            if self.force_exit:
                self._tell("told again to end: streams end with an error now")
                break
            if loop.time() >= next_look:
                next_look = loop.time() + 1
                self._expire()
                text = self._outstanding()
                if text != told:
                    told = text
                    self._tell(text)
            await asyncio.sleep(_POLL)

    def _outstanding(self) -> str:
        streams = sum(connection.is_streaming for connection in self._connections())
        requests = len(self._shared.tasks) - streams
        counted = ((requests, "request"), (streams, "stream"))
        parts = [f"{number} {word}{'s' * (number > 1)}" for number, word in counted if number > 0]
        if not parts:
            number = len(self._shared.connections)
            parts = [f"{number} connection{'s' * (number > 1)} with a request or an answer on the way"]
        listed = ", ".join((*parts, *self._waiting_for()))
        return f"waiting for {listed}; {self._drain:g} s at most, or until it is told again to end"

    def _expire(self) -> None:
        now = asyncio.get_running_loop().time()
        for connection in self._connections():
            connection.expire(now)

    def _connections(self) -> list[StrictProtocol]:
        return [cast("StrictProtocol", connection) for connection in self._shared.connections]


def _accepted(sock: socket.socket) -> Iterator[socket.socket]:
    """Accept what waits at a listening socket."""
    while True:
        try:
            connection, _ = sock.accept()
        except OSError:  # nothing waits, or no more can be opened
            return
        connection.setblocking(False)
        yield connection
