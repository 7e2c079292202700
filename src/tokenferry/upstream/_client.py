import asyncio
import ssl
from collections import Counter
from collections.abc import Sequence
from functools import cached_property
from pathlib import Path
from types import MappingProxyType

from msgspec.structs import astuple

from tokenferry.upstream._call import Call
from tokenferry.upstream._connect import Connector, reason_of
from tokenferry.upstream._connection import Connection
from tokenferry.upstream._errors import BadRequest, UpstreamClosed, UpstreamError
from tokenferry.upstream._origin import parse_origin
from tokenferry.upstream._proxy import Proxies
from tokenferry.upstream._request import Body, EncodedHeaders, build_request, encode_headers
from tokenferry.upstream._values import Sink, Timeouts, UpstreamStatistics

__all__ = ["UpstreamClient"]

_TICK_S = 1.0


class UpstreamClient:
    """An HTTP/1.1 client for one origin, with a pool of idle connections. It belongs to the loop that first uses it.

    It follows no redirects, decodes no bodies and stores no cookies. It resends a request only once, and only if an
    idle connection proves to have been closed by the peer (`stale_within`).
    """

    def __init__(
        self,
        origin: str,
        *,
        ssl_context: ssl.SSLContext | None = None,
        ca_file: Path | None = None,
        proxies: Proxies | None = None,
        timeouts: Timeouts | None = None,
        max_idle: int = 64,
        max_connections: int | None = None,
        lines: Sequence[bytes] = (),
    ) -> None:
        """Raises `ConfigError` unless the origin is https, or http on loopback, and its proxy's URL is valid.

        Without an `ssl_context`, the system's roots and those in `ca_file` are trusted. Above `max_connections` calls
        wait in order. `lines` are encoded headers of every request.
        """
        self._origin = parse_origin(origin)
        self.host = self._origin.authority
        """Host and port, for messages."""
        self.timeouts = timeouts or Timeouts()
        self._tick_s = min(_TICK_S, *(limit / 4 for limit in astuple(self.timeouts)))
        proxy = proxies.of(self._origin) if proxies is not None else None
        self._connector = Connector(self._origin, proxy=proxy, ssl_context=ssl_context, ca_file=ca_file)
        self._max_idle = max_idle
        self._max_connections = max_connections
        self._lines = b"".join(lines)
        self._open: set[Connection] = set()
        self._idle: list[Connection] = []
        self._calls: set[Call] = set()
        self._queued: dict[Call, None] = {}
        self._dials: set[asyncio.Task[None]] = set()
        self._timer: asyncio.TimerHandle | None = None
        self._closed = False
        self._all_gone: asyncio.Event | None = None
        self._dialled = self._reused = self._retried = 0
        self._failures: Counter[str] = Counter()
        self._undelivered: list[Call] = []

    @cached_property
    def loop(self) -> asyncio.AbstractEventLoop:
        """The loop that it belongs to. Cached: before Python 3.12, asking for the running loop is a system call."""
        return asyncio.get_running_loop()

    @property
    def origin(self) -> str:
        return str(self._origin)

    def send(
        self,
        method: str,
        target: bytes,
        headers: EncodedHeaders | Sequence[tuple[bytes, bytes]],
        body: Body,
        sink: Sink,
        *,
        stream: bool = False,
    ) -> Call:
        """Start a call. The sink is called later, never from within.

        `target` is in origin form and includes the query. `headers` may not contain `FRAMING_HEADERS`. With `stream`,
        the shorter first-byte timeout applies. Raises `BadRequest` and `UpstreamClosed`.
        """
        encoded = headers if isinstance(headers, EncodedHeaders) else encode_headers(headers)
        request = build_request(self._origin, method, target, encoded, body, own=self._lines)
        # Tracebacks from here and from callers must not show a credential.
        del headers, encoded, body
        if isinstance(request, str):
            raise BadRequest(self.host, request)
        if self._closed:
            raise UpstreamClosed(self.host)
        first_byte = self.timeouts.first_byte_stream if stream else self.timeouts.first_byte
        call = Call(self, request, sink, first_byte=first_byte)
        self._calls.add(call)
        if self._timer is None:
            self._arm()
        if self._idle:
            self._reused += 1
            call.attach(self._idle.pop(), reused=True)
        else:
            self._connect(call)
        return call

    def statistics(self) -> UpstreamStatistics:
        return UpstreamStatistics(
            open=len(self._open),
            idle=len(self._idle),
            in_flight=len(self._calls),
            queued=len(self._queued),
            dialled=self._dialled,
            reused=self._reused,
            retried=self._retried,
            failures=MappingProxyType(dict(self._failures)),
        )

    async def aclose(self) -> None:
        """End every call with `UpstreamClosed`, close every connection, and wait until they are gone."""
        self._closed = True
        self.deliver()
        for call in list(self._calls):
            call.fail(UpstreamClosed(self.host, sent=call.sent, answered=call.answered))
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None
        self._connector.close()
        if self._dials:
            await asyncio.wait(self._dials)
        for connection in list(self._open):
            connection.drop()
        if self._open:
            self._all_gone = self._all_gone or asyncio.Event()
            await self._all_gone.wait()

    # Called by connections and calls.

    def opened(self, connection: Connection) -> None:
        self._open.add(connection)

    def deliver_soon(self, call: Call) -> None:
        """Deliver the call's read after all sockets that are ready now were read.

        Delivering answers one after another costs less than interleaving reads and deliveries.
        """
        if not self._undelivered:
            self.loop.call_soon(self.deliver)
        self._undelivered.append(call)

    def deliver(self) -> None:
        """Deliver the pending read of every call."""
        calls, self._undelivered = self._undelivered, []
        for call in calls:
            result, call.pending = call.pending, None
            if result is None:
                continue
            try:
                call.receive(result)
            except Exception as fault:  # noqa: BLE001  # the other calls must get theirs
                call.abort()
                self.loop.call_exception_handler({"message": "an answer could not be delivered", "exception": fault})

    def release(self, connection: Connection) -> None:
        if self._queued:
            if next(iter(self._queued)).sent:
                connection.drop()  # a resent request needs a new connection
                return
            self._reused += 1
            self._next().attach(connection, reused=True)
            return
        if self._closed or len(self._idle) >= self._max_idle:
            connection.drop()
            return
        connection.idle_since = self.loop.time()
        self._idle.append(connection)

    def withdraw(self, connection: Connection) -> None:
        if connection in self._idle:
            self._idle.remove(connection)

    def gone(self, connection: Connection) -> None:
        self._open.discard(connection)
        self.withdraw(connection)
        self._serve_queue()
        if not self._open and self._all_gone is not None:
            self._all_gone.set()

    def reconnect(self, call: Call) -> None:
        """Resend on a new connection, since idle ones may be stale, too."""
        self._retried += 1
        self._connect(call)

    def ended(self, call: Call, failure: UpstreamError | None) -> None:
        self._calls.discard(call)
        self._queued.pop(call, None)
        if failure is not None:
            self._failures[failure.kind] += 1

    def _connect(self, call: Call) -> None:
        """Open a connection for the call, or queue it at the limit."""
        if self._is_full():
            self._queued[call] = None
            call.queue()
            return
        task = self.loop.create_task(self._dial(call))
        self._dials.add(task)
        task.add_done_callback(self._dial_over)
        call.dial(task)

    async def _dial(self, call: Call) -> None:
        connection = Connection(self)
        start = self.loop.time()
        try:
            await self._connector.connect(connection)
        except (OSError, UnicodeError) as error:
            call.unreachable(reason_of(error), error)
            return
        except asyncio.CancelledError:
            # uvloop closes the socket without calling `connection_lost`, and `aclose` would wait forever.
            connection.drop()
            self.gone(connection)
            raise
        self._dialled += 1
        connection.opening = self.loop.time() - start
        if connection.usable:
            call.attach(connection, reused=False)
        else:
            call.unreachable("it was closed right after it was opened")

    def _dial_over(self, dial: asyncio.Task[None]) -> None:
        self._dials.discard(dial)
        self._serve_queue()

    def _is_full(self) -> bool:
        return self._max_connections is not None and len(self._open) + len(self._dials) >= self._max_connections

    def _serve_queue(self) -> None:
        while self._queued and not self._is_full():
            self._connect(self._next())

    def _next(self) -> Call:
        call = next(iter(self._queued))
        del self._queued[call]
        return call

    def _arm(self) -> None:
        self._timer = self.loop.call_later(self._tick_s, self._tick)

    def _tick(self) -> None:
        """Check every deadline. One timer serves all, since one per read would cost more than the read."""
        self._timer = None
        if self._calls or self._idle:
            self._arm()
        self.deliver()  # a call with a pending read is not late
        now = self.loop.time()
        for connection in [idle for idle in self._idle if idle.idle_since + self.timeouts.keep_idle <= now]:
            connection.drop()
        for call in [call for call in self._calls if call.deadline <= now]:
            call.expire()
