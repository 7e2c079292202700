"""Serves HTTP/1.1 to clients. Refuses ambiguous requests, and cuts slow or endless ones."""

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
_LENGTH: Final = b"content-length"
_OFFER: Final = (b"upgrade", b"h2c")

_LARGE_HEAD: Final = f"the request's head is larger than {HEAD_LIMIT} bytes"
_ENDING: Final = "the gateway is shutting down; send the request again when it is back"


class _Stop(Exception):  # noqa: N818  # stops the parser from inside a callback
    """The request is invalid."""


class Connections:
    """The connections of a listener. `limit` applies to the number of connections plus requests in flight."""

    def __init__(self, limit: int) -> None:
        self.limit = limit
        self.is_ending = False
        self.all: set[ClientConnection] = set()
        self.in_flight = 0
        self.tasks: set[asyncio.Task[None]] = set()
        """The tasks that answer requests."""
        self._ready: list[ClientConnection] = []

    def proceed_soon(self, connection: "ClientConnection") -> None:
        """Proceed with the connection's request after all available data is read.

        This is faster than reading and proceeding by turns.
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
            except Exception as fault:  # noqa: BLE001  # the other requests must proceed
                connection.transport.abort()
                context = {"message": "a request could not proceed", "exception": fault}
                connection.loop.call_exception_handler(context)

    def make_room(self, asking: "ClientConnection") -> bool:
        """At the limit, close the connection that has been idle for the longest time. Give whether there is room."""
        if len(self.all) + self.in_flight <= self.limit:
            return True
        idle = [one for one in self.all if one.is_idle and one is not asking]
        return any(one.close_if_idle() for one in sorted(idle, key=lambda one: one.idle_since))


class ClientConnection(asyncio.Protocol):
    """A client's connection. `deadline` is on the loop's clock; the listener's owner calls `expire`.

    A pipelined request waits until those before it are answered, and nothing more is read until then.
    """

    def __init__(self, gateway: Gateway, shared: Connections) -> None:
        self._gateway = gateway
        self._shared = shared
        self.loop = asyncio.get_running_loop()
        self._parser = self._new_parser()
        self.transport: asyncio.Transport = cast("asyncio.Transport", None)
        self._address: str | None = None
        self._handlers: deque[RequestHandler] = deque()
        self._reading: RequestHandler | None = None
        self._url = b""
        self._headers = HeaderList()
        """Without that of the length, which differs from request to request."""
        self._length: bytes | None = None
        self._known: tuple[HeaderList, RequestLine] | None = None
        """The last valid head, and such headers of it."""
        self.is_ready = False
        """Whether it is scheduled to proceed with a request."""
        self._is_offer = False
        """Whether the request offers HTTP/2."""
        self.deadline = _NEVER
        self.idle_since = 0.0
        self._unread_deadline = _NEVER
        self._fault = GatewayError(400, "invalid_request_error", "the request is not valid HTTP/1.1")
        self._quiet_bytes = 0
        self._discarded = 0
        self._in_message = self._in_head = self._is_new = self._is_lingering = self._is_deaf = self._is_full = False

    @property
    def is_idle(self) -> bool:
        """Whether it is open without an unanswered request, not even a part of one."""
        return not self._in_message and not self._handlers and not self.transport.is_closing()

    @property
    def is_answering(self) -> bool:
        """Whether a request isn't completely answered."""
        return bool(self._handlers)

    @property
    def is_streaming(self) -> bool:
        """Whether an answer of unknown length is being sent."""
        return bool(self._handlers) and self._handlers[0].writer.is_chunked

    @property
    def tasks(self) -> set[asyncio.Task[None]]:
        """The listener's tasks that answer requests."""
        return self._shared.tasks

    @property
    def is_deaf(self) -> bool:
        """Whether reading is paused until a request is answered or its body is consumed."""
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
            transport.abort()  # type: ignore[attr-defined]  # too many even for an error

    def connection_lost(self, exc: Exception | None) -> None:  # noqa: ARG002  # the cause doesn't matter
        self._shared.all.discard(self)
        self._leave()

    def data_received(self, data: bytes) -> None:
        if self._is_lingering:
            self._discard(data)
            return
        # This also counts what the parser buffers or skips silently: an endless header, chunk extension or trailer.
        self._quiet_bytes += len(data)
        try:
            try:
                self._parser.feed_data(data)
            except httptools.HttpParserUpgrade as stop:
                self._ignore_offer(data[stop.args[0] :])
        except httptools.HttpParserError:
            self._break_off(self._fault)
            return
        if self._is_new:
            self._is_new = False
            if self._in_message:  # of most requests all has arrived
                self.deadline = self.loop.time() + (HEAD_SECONDS if self._in_head else BODY_SECONDS)
        if self._quiet_bytes > HEAD_LIMIT:
            self._break_off(GatewayError(431, "invalid_request_error", _LARGE_HEAD))
        elif self.is_ready:
            self.proceed()  # before more is buffered: the head may be enough to refuse the body
        elif self._handlers:
            self._shared.proceed_soon(self)

    def eof_received(self) -> bool:
        return False  # close: a client that ends its side counts as gone

    # Events of the parser.

    def on_message_begin(self) -> None:
        self._url = b""
        self._headers = HeaderList()
        self._length = None
        self._in_message = self._in_head = self._is_new = True
        self._discarded = 0

    def on_url(self, url: bytes) -> None:
        self._url += url

    def on_header(self, name: bytes, value: bytes) -> None:
        if self._in_head:  # otherwise a trailer, which must not be merged into the head unchecked (RFC 9110, 6.5.1)
            name = name.lower()
            if name == _LENGTH:
                self._length = value  # the only one: the parser refuses a second
            else:
                self._headers.append((name, value))

    def on_headers_complete(self) -> None:
        self._in_head = False
        headers, url, parser, length = self._headers, self._url, self._parser, self._length
        if parser.should_upgrade():
            self._take_offer()
            return
        if len(headers) + (length is not None) > HEADER_LIMIT:
            self._stop(431, f"the request has more than {HEADER_LIMIT} headers")
        if self._quiet_bytes > HEAD_LIMIT and self._head_size() > HEAD_LIMIT:
            self._stop(431, _LARGE_HEAD)
        self._quiet_bytes = 0
        method, version = parser.get_method().decode("ascii"), parser.get_http_version()
        seen, last = self._known or (None, None)
        if last is not None and headers == seen and (url, method, version) == (last.target, last.method, "1.1"):
            path, read = last.path, last.read  # as that of the request before
        else:
            path, read, seen = url.partition(b"?")[0], RequestHead(headers), headers
            fault = _fault(read, url, version)
            if fault is not None:
                self._stop(*fault)
        if length is not None:
            headers = HeaderList([*headers, (_LENGTH, length)])
        self._is_new = True
        shared = self._shared
        has_room = len(shared.all) + shared.in_flight <= shared.limit or shared.make_room(self)
        shared.in_flight += 1
        head = RequestLine(method, url, path, headers, read, self._address, has_room, length)
        self._known = (seen, head)
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
            # The answer didn't wait for the body. The rest of the body is read, so that the answer arrives.
            self._discard(body)
        else:
            handler.take(body)

    def on_message_complete(self) -> None:
        if self._is_offer:
            return
        self._in_message = False
        self._quiet_bytes = 0
        self.deadline = _NEVER
        handler, self._reading = self._reading, None
        if handler is None:
            return
        if not handler.writer.is_over:
            handler.complete()
        elif not self._handlers:
            self._become_idle()

    # The parser.

    def _new_parser(self) -> httptools.HttpRequestParser:
        parser = httptools.HttpRequestParser(self)
        # Data after a request with "connection: close" is ignored, so that the request is answered.
        parser.set_dangerous_leniencies(lenient_data_after_close=True)
        return parser

    def _take_offer(self) -> None:
        """Let `_ignore_offer` parse a request again that offers HTTP/2; refuse any other upgrade."""
        offers = [header for header in self._headers if header[0] == _OFFER[0]]
        self._is_offer = self._parser.get_http_version() == "1.1" and offers == [_OFFER]
        if not self._is_offer:
            self._stop(400, "this gateway can't upgrade connections; remove the Upgrade header")

    def _ignore_offer(self, data: bytes) -> None:
        """Parse the head again without its offer of HTTP/2 (h2c; RFC 9110, 7.8), and the data behind it.

        The parser would skip its body. Java's client makes the offer by default, and `curl --http2`.
        """
        is_offer = True
        while is_offer:
            method, url, headers = self._parser.get_method(), self._url, self._headers
            if self._length is not None:
                headers.append((_LENGTH, self._length))
            self._parser, self._is_offer = self._new_parser(), False
            lines = (b"%b: %b\r\n" % header for header in headers if header != _OFFER)
            self._parser.feed_data(b"".join((b"%b %b HTTP/1.1\r\n" % (method, url), *lines, b"\r\n")))
            is_offer = False
            try:
                self._parser.feed_data(data)
            except httptools.HttpParserUpgrade as stop:
                is_offer, data = True, data[stop.args[0] :]

    # Events of the transport.

    def pause_writing(self) -> None:
        self._unread_deadline = self.loop.time() + READ_SECONDS
        if self._handlers:
            self._handlers[0].pause()

    def resume_writing(self) -> None:
        self._unread_deadline = _NEVER
        if self._handlers:
            self._handlers[0].resume()

    # Events of handlers and writers.

    def answered(self, writer: ResponseWriter) -> None:
        """End an answer, and proceed with the next request."""
        self._handlers.popleft()
        self._shared.in_flight -= 1
        if not writer.keep:
            # Closing with unread bytes would destroy the answer in transit.
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
                self._become_idle()

    def cut(self) -> None:
        """Close the connection after sending what is already written."""
        self.deadline = self.loop.time() + CLOSE_SECONDS
        self.transport.close()
        self._leave()

    def hold(self, *, is_deaf: bool) -> None:
        """Pause or resume reading."""
        self._is_deaf = is_deaf
        self._listen()

    # Calls of the listener.

    def expire(self, now: float) -> None:
        """Cut the connection if its client is late. Time while reading was paused doesn't count."""
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
        """Close it once every request that has reached this machine is answered."""
        if self._is_lingering:
            self.transport.close()
        elif self._handlers:
            self._handlers[-1].writer.keep = False  # the newest request; earlier ones are answered first
        elif not self.close_if_idle():
            self.deadline = min(self.deadline, self.loop.time() + _LINGER_SECONDS)

    def close_if_idle(self) -> bool:
        """Close it, unless a request is in progress or unread in the socket's buffer. Give whether it is closed."""
        if self.is_idle and not self._has_unread():
            self.transport.close()
        return self.transport.is_closing()

    def give_up(self) -> None:
        """Refuse the current request if its answer hasn't begun."""
        if self._handlers and not self._handlers[0].writer.is_started:
            self._handlers[0].refuse(
                GatewayError(503, "api_error", _ENDING, should_retry=True, retry_after=2, cause="shutting_down")
            )

    def proceed(self) -> None:
        """Proceed with the current request."""
        self.is_ready = False
        if self._handlers and not self.transport.is_closing():
            if self._unread_deadline != _NEVER:
                self._handlers[0].pause()
            self._handlers[0].proceed()

    def _become_idle(self) -> None:
        """Start the idle time, after the last request."""
        self.idle_since = now = self.loop.time()
        self.deadline = now + IDLE_SECONDS
        if self._shared.is_ending:
            self._finish()

    def _finish(self) -> None:
        self.deadline = self.loop.time() + CLOSE_SECONDS
        self.transport.close()
        self._leave()

    def _listen(self) -> None:
        """Pause or resume the transport's reading as needed."""
        transport = self.transport
        is_reading = not (self._is_deaf or self._is_full)
        if transport.is_closing() or transport.is_reading() is is_reading:
            return
        if is_reading:
            transport.resume_reading()
        else:
            transport.pause_reading()

    def _break_off(self, fault: GatewayError) -> None:
        """Refuse a malformed request, unless an earlier request is still being answered."""
        if self.transport.is_closing():
            return
        if not self._handlers:
            if self._reading is None:
                self._refuse(fault)
            else:
                self.transport.abort()  # its request was answered before its body arrived
        elif len(self._handlers) > 1 or self._handlers[0].writer.is_started or self._handlers[0] is not self._reading:
            self.transport.abort()
        else:
            self._handlers[0].refuse(fault)

    def _refuse(self, error: GatewayError) -> None:
        """Answer a request whose head is malformed."""
        request_id = new_request_id()
        content = error.body(request_id)
        lines = [b"HTTP/1.1 %d \r\n" % error.status]
        headers = [*error.head(len(content)), (REQUEST_ID, request_id.encode()), (b"connection", b"close")]
        lines.extend(b"%b: %b\r\n" % header for header in headers)
        self.transport.write(b"".join((*lines, b"\r\n", content)))
        self._gateway.record_malformed(request_id, error)
        self._linger()

    def _linger(self) -> None:
        """End our side, and keep reading: closing with unread bytes would destroy the answer in transit."""
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
        """Disconnect all handlers, since nothing more can be sent."""
        handlers, self._handlers = self._handlers, deque()
        self._shared.in_flight -= len(handlers)
        for handler in handlers:
            handler.disconnected()

    def _discard(self, data: bytes) -> None:
        self._discarded += len(data)
        if self._discarded > _DISCARD_LIMIT:
            self.transport.abort()

    def _head_size(self) -> int:
        length = b"" if self._length is None else _LENGTH + self._length
        return len(self._url) + len(length) + sum(len(name) + len(value) for name, value in self._headers)

    def _has_unread(self) -> bool:
        sock: Any = self.transport.get_extra_info("socket")
        poll = select.poll()
        poll.register(sock.fileno(), select.POLLIN)
        return bool(poll.poll(0))

    def _stop(self, status: int, message: str) -> None:
        self._fault = GatewayError(status, "invalid_request_error", message)
        raise _Stop


def _fault(head: RequestHead, url: bytes, version: str) -> tuple[int, str] | None:
    """Give the status and message for an invalid head that the parser accepted; None for a valid one."""
    if head.codings and any(value.strip().lower() != b"chunked" for value in head.codings):
        return 400, "the only supported transfer-encoding is chunked"
    if head.expectations and any(value.strip().lower() != b"100-continue" for value in head.expectations):
        return 417, "the only supported expectation is 100-continue"
    if version != "1.1":
        return 505, "the version of HTTP must be 1.1"
    if not url.startswith(b"/") or _FRAGMENT in url or not url.isascii():
        return 400, "the request's target must be a path with an optional query"
    if len(head.hosts) != 1:
        return 400, "the request must have exactly one Host header"
    return None
