"""The listener's side of HTTP/1.1: what is ambiguous is refused, what is slow or endless is cut."""

import asyncio
import select
from collections import deque
from typing import Any, Final, cast

import httptools

from tokenferry.gateway.app import Gateway
from tokenferry.gateway.control.asgi import AsgiHandler
from tokenferry.gateway.http.errors import REQUEST_ID, GatewayError
from tokenferry.gateway.http.handler import RequestHandler, RequestLine
from tokenferry.gateway.http.headers import HeaderList
from tokenferry.gateway.http.request_head import RequestHead
from tokenferry.gateway.http.request_id import new_request_id
from tokenferry.gateway.http.response_writer import ResponseWriter

HEAD_LIMIT: Final = 64 * 1024
HEADER_LIMIT: Final = 128
HEAD_SECONDS: Final = 30.0
BODY_SECONDS: Final = 120.0
IDLE_SECONDS: Final = 75.0
READ_SECONDS: Final = 300.0
CLOSE_SECONDS: Final = 30.0
_LINGER_SECONDS: Final = 5.0
_DISCARD_LIMIT: Final = 64 * 1024 * 1024
_SPARE: Final = 32
_MANY: Final = 2
_NEVER: Final = float("inf")
_FRAGMENT: Final = ord("#")

_LARGE_HEAD: Final = f"the request's head is larger than {HEAD_LIMIT} bytes"
_ENDING: Final = "the gateway is shutting down; send the request again when it is back"


class _Stop(Exception):  # noqa: N818  # stops the parser from inside a call-back
    """The request was found wanting."""


class Connections:
    """What the connections of a listener share. `limit` counts each of them, and each request in flight, once."""

    def __init__(self, limit: int) -> None:
        self.limit = limit
        self.is_ending = False
        self.all: set[ClientConnection] = set()
        self.in_flight = 0
        self.tasks: set[asyncio.Task[None]] = set()
        """Of requests that are answered by one."""
        self._ready: list[ClientConnection] = []

    def proceed_soon(self, connection: "ClientConnection") -> None:
        """Go on with its request once everything that has arrived is read.

        Requests that are gone on with one after the other cost a good deal less than those between which others come.
        """
        if not connection.is_ready:
            connection.is_ready = True
            if not self._ready:
                connection.loop.call_soon(self._proceed)
            self._ready.append(connection)

    def _proceed(self) -> None:
        ready, self._ready = self._ready, []
        for connection in ready:
            try:
                connection.proceed()
            except Exception as fault:  # noqa: BLE001  # the others must go on
                connection.transport.abort()
                context = {"message": "a request could not be gone on with", "exception": fault}
                connection.loop.call_exception_handler(context)

    def make_room(self, asking: "ClientConnection") -> bool:
        """At the limit close the other connection that has been idle for longest; tell whether there is room now."""
        if len(self.all) + self.in_flight <= self.limit:
            return True
        idle = [one for one in self.all if one.is_idle and one is not asking]
        return any(one.close_if_idle() for one in sorted(idle, key=lambda one: one.idle_since))


class ClientConnection(asyncio.Protocol):
    """One connection of a client. `deadline` is on the loop's clock; whoever owns the listener calls `expire`.

    Pipelined requests wait for their turn; nothing more is read until then.
    """

    def __init__(self, gateway: Gateway, shared: Connections) -> None:
        self._gateway = gateway
        self._shared = shared
        self.loop = asyncio.get_running_loop()
        self._parser = httptools.HttpRequestParser(self)
        # What follows a request that said "connection: close" is left alone, and doesn't spoil its answer.
        self._parser.set_dangerous_leniencies(lenient_data_after_close=True)
        self.transport: asyncio.Transport = cast("asyncio.Transport", None)
        self._address: str | None = None
        self._handlers: deque[RequestHandler] = deque()
        self._reading: RequestHandler | None = None
        self._url = b""
        self._headers = HeaderList()
        self.is_ready = False
        """Whether it is about to go on with a request."""
        self.deadline = _NEVER
        self.idle_since = 0.0
        self._unread_deadline = _NEVER
        self._fault = GatewayError(400, "invalid_request_error", "the request is not valid HTTP/1.1")
        self._quiet_bytes = 0
        self._discarded = 0
        self._in_message = self._in_head = self._is_new = self._is_lingering = self._is_deaf = self._is_full = False

    @property
    def is_idle(self) -> bool:
        """Whether it is open and nothing of a request has been read that isn't answered."""
        return not self._in_message and not self._handlers and not self.transport.is_closing()

    @property
    def is_answering(self) -> bool:
        """Whether a request whose head was read has not had all of its answer."""
        return bool(self._handlers)

    @property
    def is_streaming(self) -> bool:
        """Whether an answer of no announced length is under way."""
        return bool(self._handlers) and self._handlers[0].writer.is_chunked

    @property
    def tasks(self) -> set[asyncio.Task[None]]:
        """Where to keep the tasks that answer requests."""
        return self._shared.tasks

    @property
    def is_deaf(self) -> bool:
        """Whether nothing is read for now: a request is to be answered first, or who takes its body lags behind."""
        return self._is_deaf or self._is_full

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self.transport = cast("asyncio.Transport", transport)
        shared = self._shared
        shared.all.add(self)
        peer = transport.get_extra_info("peername")
        if isinstance(peer, tuple):
            self._address = str(peer[0])
        self.idle_since = self.loop.time()
        self.deadline = self.idle_since + HEAD_SECONDS
        if shared.is_ending:
            self.shutdown()
        elif not shared.make_room(self) and len(shared.all) > shared.limit + _SPARE:
            transport.abort()  # type: ignore[attr-defined]  # a request would get an answer that there is no room, but this
            # is too many even for that

    def connection_lost(self, exc: Exception | None) -> None:  # noqa: ARG002  # that it is lost says enough
        self._shared.all.discard(self)
        self._leave()

    def data_received(self, data: bytes) -> None:
        if self._is_lingering:
            self._discard(data)
            return
        # What the parser keeps or skips without telling (an endless header, chunk extension or trailer) counts, too.
        self._quiet_bytes += len(data)
        try:
            self._parser.feed_data(data)
        except (httptools.HttpParserError, httptools.HttpParserUpgrade):
            self._break_off(self._fault)
            return
        if self._is_new:
            self._is_new = False
            if self._in_message:  # of most requests all has arrived
                self.deadline = self.loop.time() + (HEAD_SECONDS if self._in_head else BODY_SECONDS)
        if self._quiet_bytes > HEAD_LIMIT:
            self._break_off(GatewayError(431, "invalid_request_error", _LARGE_HEAD))
        elif self.is_ready:
            self.proceed()  # of no connection more than one read waits: a body may be refused by its head
        elif self._handlers:
            self._shared.proceed_soon(self)

    def eof_received(self) -> bool:
        return False  # who ends its side gets no answer any more: it is gone for all we know

    # What the parser tells.

    def on_message_begin(self) -> None:
        self._url = b""
        self._headers = HeaderList()
        self._in_message = self._in_head = self._is_new = True
        self._discarded = 0

    def on_url(self, url: bytes) -> None:
        self._url += url

    def on_header(self, name: bytes, value: bytes) -> None:
        if self._in_head:  # else a trailer: merging it into the head would let it pass unchecked (RFC 9110, 6.5.1)
            self._headers.append((name.lower(), value))

    def on_headers_complete(self) -> None:
        self._in_head = False
        headers, url, parser = self._headers, self._url, self._parser
        if len(headers) > HEADER_LIMIT:
            self._stop(431, f"the request has more than {HEADER_LIMIT} headers")
        if self._quiet_bytes > HEAD_LIMIT and self._head_size() > HEAD_LIMIT:
            self._stop(431, _LARGE_HEAD)
        self._quiet_bytes = 0
        read = RequestHead(headers)
        fault = _fault(read, url, parser)
        if fault is not None:
            self._stop(*fault)
        self._is_new = True
        shared = self._shared
        has_room = len(shared.all) + shared.in_flight <= shared.limit or shared.make_room(self)
        shared.in_flight += 1
        method = parser.get_method().decode("ascii")
        head = RequestLine(method, url, url.partition(b"?")[0], headers, read, self._address, has_room)
        keep = parser.should_keep_alive() and not shared.is_ending
        writer = ResponseWriter(self, to_head=method == "HEAD", keep=keep, expects=bool(read.expectations))
        handler: RequestHandler | None = self._gateway.exchange(head, writer)
        if handler is None:
            handler = AsgiHandler(self._gateway, self, head, writer)
        self._reading = handler
        self._handlers.append(handler)
        if len(self._handlers) >= _MANY:
            self._is_full = True
            self._listen()
        elif self._unread_deadline != _NEVER:
            handler.pause()

    def on_body(self, body: bytes) -> None:
        self._quiet_bytes = 0
        handler = self._reading
        assert handler is not None
        if handler.writer.is_over:
            # An answer that did not wait for the body. What is left of it is read, so that the answer gets through.
            self._discard(body)
        else:
            handler.take(body)

    def on_message_complete(self) -> None:
        self._in_message = False
        self._quiet_bytes = 0
        self.deadline = _NEVER
        handler, self._reading = self._reading, None
        if handler is None:
            return
        if not handler.writer.is_over:
            handler.complete()
        elif not self._handlers:
            self._rest()

    # What the transport tells.

    def pause_writing(self) -> None:
        self._unread_deadline = self.loop.time() + READ_SECONDS
        if self._handlers:
            self._handlers[0].pause()

    def resume_writing(self) -> None:
        self._unread_deadline = _NEVER
        if self._handlers:
            self._handlers[0].resume()

    # What requests in their turn say.

    def answered(self, writer: ResponseWriter) -> None:
        """An answer is whole: the next request's turn."""
        self._handlers.popleft()
        self._shared.in_flight -= 1
        if not writer.keep:
            # Closing over unread bytes would destroy the answer on its way.
            if self._in_message and not self._handlers:
                self._linger()
            else:
                self._finish()
        else:
            if (self._is_full or self._is_deaf) and len(self._handlers) < _MANY:
                self._is_full = self._is_deaf = False
                self._listen()
            if self._handlers:
                self._shared.proceed_soon(self)
            elif not self._in_message:
                self._rest()

    def cut(self) -> None:
        """Close the connection; what is written already still goes out, to a client that reads."""
        self.deadline = self.loop.time() + CLOSE_SECONDS
        self.transport.close()
        self._leave()

    def hold(self, *, is_deaf: bool) -> None:
        """Read nothing for now, or read on."""
        self._is_deaf = is_deaf
        self._listen()

    # What the listener says.

    def expire(self, now: float) -> None:
        """Cut the connection if its client is late. Time in which nothing was read from it doesn't count."""
        if now >= self._unread_deadline:
            self.transport.abort()
        elif now < self.deadline:
            if self.transport.is_closing():
                self.deadline = min(self.deadline, now + CLOSE_SECONDS)
        elif self.is_idle and not self._is_lingering:
            self.close_if_idle()
        elif (self._is_deaf or self._is_full) and not self.transport.is_closing():
            self.deadline = now + BODY_SECONDS
        else:
            self.transport.abort()

    def shutdown(self) -> None:
        """Close it as soon as every request that has reached this machine is answered."""
        if self._is_lingering:
            self.transport.close()
        elif self._handlers:
            self._handlers[-1].writer.keep = False  # the newest one; those before it are answered, too
        elif not self.close_if_idle():
            self.deadline = min(self.deadline, self.loop.time() + _LINGER_SECONDS)

    def close_if_idle(self) -> bool:
        """Close it, unless a request is under way, or lies unread in the socket's buffer; tell whether it is closed."""
        if self.is_idle and not self._has_unread():
            self.transport.close()
        return self.transport.is_closing()

    def give_up(self) -> None:
        """Answer a request that is to be ended before its answer has begun."""
        if self._handlers and not self._handlers[0].writer.is_started:
            self._handlers[0].refuse(
                GatewayError(503, "api_error", _ENDING, should_retry=True, retry_after=2, cause="shutting_down")
            )

    def proceed(self) -> None:
        """Go on with the request whose turn it is."""
        self.is_ready = False
        if self._handlers and not self.transport.is_closing():
            if self._unread_deadline != _NEVER:
                self._handlers[0].pause()
            self._handlers[0].proceed()

    def _rest(self) -> None:
        """Nothing of a request is under way any more."""
        self.idle_since = now = self.loop.time()
        self.deadline = now + IDLE_SECONDS
        if self._shared.is_ending:
            self._finish()

    def _finish(self) -> None:
        self.deadline = self.loop.time() + CLOSE_SECONDS
        self.transport.close()
        self._leave()

    def _listen(self) -> None:
        """Read, or don't, as it was said."""
        transport = self.transport
        is_reading = not (self._is_deaf or self._is_full)
        if transport.is_closing() or transport.is_reading() is is_reading:
            return
        if is_reading:
            transport.resume_reading()
        else:
            transport.pause_reading()

    def _break_off(self, fault: GatewayError) -> None:
        """Answer what can't be understood, unless an answer to an earlier request is due or under way."""
        if self.transport.is_closing():
            return
        if not self._handlers:
            if self._reading is None:
                self._refuse(fault)
            else:
                self.transport.abort()  # its request was answered before its body had come
        elif len(self._handlers) > 1 or self._handlers[0].writer.is_started or self._handlers[0] is not self._reading:
            self.transport.abort()
        else:
            self._handlers[0].refuse(fault)

    def _refuse(self, error: GatewayError) -> None:
        """Answer what could not be read as a request."""
        request_id = new_request_id()
        content = error.body(request_id)
        lines = [b"HTTP/1.1 %d \r\n" % error.status]
        headers = [*error.head(len(content)), (REQUEST_ID, request_id.encode()), (b"connection", b"close")]
        lines.extend(b"%b: %b\r\n" % header for header in headers)
        self.transport.write(b"".join((*lines, b"\r\n", content)))
        self._gateway.record_malformed(request_id, error)
        self._linger()

    def _linger(self) -> None:
        """End our side, and read what still comes: closing over unread bytes would destroy the answer on its way."""
        if not self.transport.can_write_eof():
            self.cut()
            return
        self._is_lingering = True
        self._in_message = False
        self._discarded = 0
        self.deadline = self.loop.time() + _LINGER_SECONDS
        self._is_deaf = self._is_full = False
        self._listen()
        self.transport.write_eof()

    def _leave(self) -> None:
        """No answer that is left gets through any more."""
        handlers, self._handlers = self._handlers, deque()
        self._shared.in_flight -= len(handlers)
        for handler in handlers:
            handler.disconnected()

    def _discard(self, data: bytes) -> None:
        self._discarded += len(data)
        if self._discarded > _DISCARD_LIMIT:
            self.transport.abort()

    def _head_size(self) -> int:
        return len(self._url) + sum(len(name) + len(value) for name, value in self._headers)

    def _has_unread(self) -> bool:
        sock: Any = self.transport.get_extra_info("socket")
        poll = select.poll()
        poll.register(sock.fileno(), select.POLLIN)
        return bool(poll.poll(0))

    def _stop(self, status: int, message: str) -> None:
        self._fault = GatewayError(status, "invalid_request_error", message)
        raise _Stop


def _fault(  # noqa: PLR0911  # one line for each
    head: RequestHead, url: bytes, parser: httptools.HttpRequestParser
) -> tuple[int, str] | None:
    """What is wrong with a request that the parser could read, if anything: a status, and a sentence."""
    if head.codings and any(value.strip().lower() != b"chunked" for value in head.codings):
        return 400, "the only transfer-encoding understood is chunked"
    if head.expectations and any(value.strip().lower() != b"100-continue" for value in head.expectations):
        return 417, "the only expectation understood is 100-continue"
    if parser.get_http_version() != "1.1":
        return 505, "speak HTTP/1.1"
    if not url.startswith(b"/") or _FRAGMENT in url or not url.isascii():
        return 400, "the request's target must be a path, with a query perhaps"
    if len(head.hosts) != 1:
        return 400, "the request must have exactly one Host header"
    if parser.should_upgrade():
        # The parser would take a body that follows for the next request.
        return 400, "this gateway upgrades no connection; leave out the Upgrade header"
    return None
