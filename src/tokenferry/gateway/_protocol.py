"""uvicorn's HTTP/1.1 protocol, stricter: what is ambiguous is refused, what is slow or endless is cut."""

import asyncio
import secrets
import select
from collections.abc import Callable
from typing import Any, Final, TypeGuard, cast

from uvicorn.config import Config
from uvicorn.protocols.http.httptools_impl import HttpToolsProtocol, RequestResponseCycle
from uvicorn.server import ServerState

from tokenferry.gateway._answers import REQUEST_ID, Refusal
from tokenferry.gateway._app import CUT, NO_ROOM, REFUSED, TARGET, UNIX, WHEN_GONE, Gateway
from tokenferry.gateway._gather import GatheringTransport
from tokenferry.gateway._headers import HeaderList

HEAD_LIMIT: Final = 64 * 1024
HEADER_LIMIT: Final = 128
HEAD_SECONDS: Final = 30.0
BODY_SECONDS: Final = 120.0
READ_SECONDS: Final = 300.0
CLOSE_SECONDS: Final = 30.0
_LINGER_SECONDS: Final = 5.0
_DISCARD_LIMIT: Final = 64 * 1024 * 1024
_SPARE: Final = 32
_NEVER: Final = float("inf")


_LARGE_HEAD: Final = f"the request's head is larger than {HEAD_LIMIT} bytes"
_ENDING: Final = "the gateway is shutting down; send the request again when it is back"


class _Stop(Exception):  # noqa: N818  # stops the parser from inside a call-back
    """The request was found wanting."""


class Connections(ServerState):
    """What the connections of a listener share. `limit` counts each of them, and each request in flight, once."""

    def __init__(self, limit: int) -> None:
        super().__init__()
        self.limit = limit
        self.is_ending = False

    def make_room(self, asking: "StrictProtocol") -> bool:
        """At the limit close the other connection that has been idle for longest; tell whether there is room now."""
        if len(self.connections) + len(self.tasks) <= self.limit:
            return True
        idle = [one for one in cast("set[StrictProtocol]", self.connections) if one.is_idle and one is not asking]
        return any(one.close_if_idle() for one in sorted(idle, key=lambda one: one.idle_since))


class StrictProtocol(HttpToolsProtocol):
    """One connection of a client. `deadline` is on the loop's clock; whoever owns the listener calls `expire`."""

    def __init__(
        self,
        config: Config,
        server_state: Connections,
        app_state: dict[str, Any],
        _loop: asyncio.AbstractEventLoop | None = None,
    ) -> None:
        super().__init__(config, server_state, app_state, _loop)
        self._shared = server_state
        self.deadline = _NEVER
        self.idle_since = 0.0
        self._unread_deadline = _NEVER
        self._answered: RequestResponseCycle | None = None
        self._when_gone: Callable[[], None] | None = None
        self._fault = Refusal(400, "invalid_request_error", "the request is not valid HTTP/1.1")
        self._quiet_bytes = 0
        self._discarded = 0
        self._in_message = self._in_head = self._is_unix = self._is_lingering = False

    @property
    def is_idle(self) -> bool:
        """Whether it is open and nothing of a request has been read that isn't answered."""
        return not self._in_message and not self.is_answering and not self.transport.is_closing()

    @property
    def is_answering(self) -> bool:
        """Whether a request whose head was read has not had all of its answer."""
        return _is_open(self._answered)

    @property
    def is_streaming(self) -> bool:
        """Whether an answer of no announced length is under way."""
        cycle = self._answered
        return _is_open(cycle) and cycle.response_started and bool(cycle.chunked_encoding)

    def connection_made(self, transport: asyncio.Transport) -> None:  # type: ignore[override]  # as uvicorn narrows it
        super().connection_made(GatheringTransport(transport, self.loop))
        self._is_unix = isinstance(transport.get_extra_info("sockname"), str)
        self.idle_since = self.loop.time()
        self.deadline = self.idle_since + HEAD_SECONDS
        if self._shared.is_ending:
            self.shutdown()
        elif not self._shared.make_room(self) and len(self.connections) > self._shared.limit + _SPARE:
            transport.abort()  # a request would be told that there is no room, but this is too many even for that

    def connection_lost(self, exc: Exception | None) -> None:
        super().connection_lost(exc)
        if _is_open(self._answered):  # uvicorn tells the newest request alone, which may be one that waits behind it
            self._answered.disconnected = True
            self._answered.message_event.set()
        self._leave()

    def data_received(self, data: bytes) -> None:
        if self._is_lingering:
            self._discard(data)
            return
        # What the parser keeps or skips without telling (an endless header, chunk extension or trailer) counts, too.
        self._quiet_bytes += len(data)
        super().data_received(data)
        if self.transport.is_closing() or self._is_lingering:
            return
        if self._quiet_bytes > HEAD_LIMIT:
            self._fault = Refusal(431, "invalid_request_error", _LARGE_HEAD)
            self.send_400_response("")
        elif self.deadline == _NEVER and self.is_idle:
            # Blank lines: uvicorn's clock for idle connections stopped at them, and no request has begun.
            self.deadline = self.loop.time() + HEAD_SECONDS

    def on_message_begin(self) -> None:
        super().on_message_begin()
        self.headers = HeaderList()
        self.scope["headers"] = self.headers
        self._in_message = self._in_head = True
        self._discarded = 0
        self.deadline = self.loop.time() + HEAD_SECONDS

    def on_header(self, name: bytes, value: bytes) -> None:
        if not self._in_head:
            return  # a trailer: merging it into the head would let it pass unchecked (RFC 9110, 6.5.1)
        if len(self.headers) >= HEADER_LIMIT:
            self._stop(431, f"the request has more than {HEADER_LIMIT} headers")
        lower = name.lower()
        if lower == b"transfer-encoding" and value.strip().lower() != b"chunked":
            self._stop(400, "the only transfer-encoding understood is chunked")
        if lower == b"expect" and value.strip().lower() != b"100-continue":
            self._stop(417, "the only expectation understood is 100-continue")
        super().on_header(name, value)

    def on_headers_complete(self) -> None:
        self._in_head = False
        if self._quiet_bytes > HEAD_LIMIT and self._head_size() > HEAD_LIMIT:
            self._stop(431, _LARGE_HEAD)
        self._quiet_bytes = 0
        if self.parser.get_http_version() != "1.1":
            self._stop(505, "speak HTTP/1.1")
        if not self.url.startswith(b"/") or b"#" in self.url:
            self._stop(400, "the request's target must be a path, with a query perhaps")
        if sum(name == b"host" for name, _ in self.headers) != 1:
            self._stop(400, "the request must have exactly one Host header")
        if self.parser.should_upgrade():
            # The parser would take a body that follows for the next request.
            self._stop(400, "this gateway upgrades no connection; leave out the Upgrade header")
        scope = cast("dict[str, Any]", self.scope)
        scope[TARGET] = self.url
        scope[CUT] = self.cut
        scope[WHEN_GONE] = self.when_gone
        scope[UNIX] = self._is_unix
        self.deadline = self.loop.time() + BODY_SECONDS
        scope[NO_ROOM] = not self._shared.make_room(self)
        super().on_headers_complete()
        if not self.pipeline:
            self._answered = self.cycle
        if self._shared.is_ending:
            self.cycle.keep_alive = False

    def on_body(self, body: bytes) -> None:
        self._quiet_bytes = 0
        if self.cycle.response_complete:
            # An answer that did not wait for the body. What is left of it is read, so that the answer gets through.
            self._discard(body)
        super().on_body(body)

    def on_message_complete(self) -> None:
        self._in_message = False
        self._quiet_bytes = 0
        self.deadline = _NEVER
        super().on_message_complete()
        if self._shared.is_ending and self.is_idle:
            self.transport.close()

    def on_response_complete(self) -> None:
        following = self.pipeline[-1][0] if self.pipeline else None
        super().on_response_complete()
        if following is not None and not self.transport.is_closing():
            self._answered = following
        self.idle_since = self.loop.time()

    def pause_writing(self) -> None:
        super().pause_writing()
        self._unread_deadline = self.loop.time() + READ_SECONDS

    def resume_writing(self) -> None:
        super().resume_writing()
        self._unread_deadline = _NEVER

    def expire(self, now: float) -> None:
        """Cut the connection if its client is late. Time in which nothing was read from it doesn't count."""
        if now >= self._unread_deadline:
            self.transport.abort()
        elif now < self.deadline:
            if self.deadline == _NEVER and self.transport.is_closing():
                self.deadline = now + CLOSE_SECONDS
        elif self.flow.read_paused and not self.transport.is_closing():
            self.deadline = now + BODY_SECONDS
        else:
            self.transport.abort()

    def shutdown(self) -> None:
        """Close it as soon as every request that has reached this machine is answered."""
        now = self.loop.time()
        if self._is_lingering:
            self.transport.close()
        elif self.is_answering:
            self.cycle.keep_alive = False  # of the newest request; those before it in the pipeline are answered, too
        elif not self.close_if_idle():
            self.deadline = min(self.deadline, now + _LINGER_SECONDS)

    def close_if_idle(self) -> bool:
        """Close it, unless a request is under way, or lies unread in the socket's buffer; tell whether it is closed."""
        if self.is_idle and not self._has_unread():
            self.transport.close()
        return self.transport.is_closing()

    def cut(self) -> None:
        """Close the connection; what is written already still goes out, to a client that reads."""
        self.deadline = self.loop.time() + CLOSE_SECONDS
        self.transport.close()

    def when_gone(self, call: Callable[[], None] | None) -> None:
        """Have this called if the client leaves before the present request is answered; None takes it back."""
        self._when_gone = call
        if call is not None:
            self.flow.resume_reading()  # its leaving is read, too

    def send_400_response(self, msg: str) -> None:  # noqa: ARG002  # the name and the text are uvicorn's
        """Answer what can't be understood, unless an answer to an earlier request is due or under way."""
        cycle = cast("RequestResponseCycle | None", self.cycle)
        if _is_open(cycle) and (self.pipeline or cycle.response_started or not cycle.more_body):
            self.transport.abort()
            return
        self._refuse(self._fault)

    def give_up(self) -> None:
        """Answer a request that is to be ended before its answer has begun."""
        cycle = self._answered
        if _is_open(cycle) and not cycle.response_started:
            self._refuse(Refusal(503, "api_error", _ENDING, should_retry=True, retry_after=2, cause="ending"))

    def _refuse(self, refusal: Refusal) -> None:
        request_id = f"tf_{secrets.token_hex(12)}"
        content = refusal.body(request_id)
        lines = [b"HTTP/1.1 %d \r\n" % refusal.status]
        headers = [*refusal.head(len(content)), (REQUEST_ID, request_id.encode()), (b"connection", b"close")]
        lines.extend(b"%b: %b\r\n" % header for header in headers)
        self.transport.write(b"".join((*lines, b"\r\n", content)))
        if _is_open(self._answered):
            cast("dict[str, Any]", self._answered.scope)[REFUSED] = refusal
            self._answered.disconnected = True
            self._answered.message_event.set()
            self._leave()
        else:
            cast("Gateway", self.app).take_note(request_id, refusal)
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
        self.flow.resume_reading()
        self.transport.write_eof()

    def _leave(self) -> None:
        call, self._when_gone = self._when_gone, None
        if call is not None:
            call()

    def _discard(self, data: bytes) -> None:
        self._discarded += len(data)
        if self._discarded > _DISCARD_LIMIT:
            self.transport.abort()

    def _head_size(self) -> int:
        return len(self.url) + sum(len(name) + len(value) for name, value in self.headers)

    def _has_unread(self) -> bool:
        poll = select.poll()
        poll.register(self.transport.get_extra_info("socket").fileno(), select.POLLIN)
        return bool(poll.poll(0))

    def _stop(self, status: int, message: str) -> None:
        self._fault = Refusal(status, "invalid_request_error", message)
        raise _Stop


def _is_open(cycle: RequestResponseCycle | None) -> TypeGuard[RequestResponseCycle]:
    return cycle is not None and not cycle.response_complete and not cycle.disconnected
