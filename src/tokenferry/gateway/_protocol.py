"""uvicorn's HTTP/1.1 protocol, stricter: what is ambiguous is refused, what is slow or endless is cut."""

import asyncio
import secrets
from typing import Any, Final, cast

from uvicorn.config import Config
from uvicorn.protocols.http.httptools_impl import HttpToolsProtocol, RequestResponseCycle
from uvicorn.server import ServerState

from tokenferry.gateway._answers import REQUEST_ID, Refusal
from tokenferry.gateway._app import CUT, TARGET
from tokenferry.gateway._headers import HeaderList

HEAD_LIMIT: Final = 64 * 1024
HEADER_LIMIT: Final = 128
HEAD_SECONDS: Final = 30.0
BODY_SECONDS: Final = 120.0
CLOSE_SECONDS: Final = 30.0
_DISCARD_LIMIT: Final = 64 * 1024 * 1024
_NEVER: Final = float("inf")


class _Stop(Exception):  # noqa: N818  # stops the parser from inside a call-back
    """The request was found wanting."""


class StrictProtocol(HttpToolsProtocol):
    """One connection of a client. `deadline` is on the loop's clock; whoever owns the listener calls `expire`."""

    def __init__(
        self,
        config: Config,
        server_state: ServerState,
        app_state: dict[str, Any],
        _loop: asyncio.AbstractEventLoop | None = None,
    ) -> None:
        super().__init__(config, server_state, app_state, _loop)
        self.deadline = _NEVER
        self._fault = Refusal(400, "invalid_request_error", "the request is not valid HTTP/1.1")
        self._quiet_bytes = 0
        self._discarded = 0
        self._in_message = self._in_head = False

    def connection_made(self, transport: asyncio.Transport) -> None:  # type: ignore[override]  # as uvicorn narrows it
        super().connection_made(transport)
        self.deadline = self.loop.time() + HEAD_SECONDS

    def data_received(self, data: bytes) -> None:
        # What the parser keeps or skips without telling (an endless header, chunk extension or trailer) counts, too.
        self._quiet_bytes += len(data)
        super().data_received(data)
        if self._in_message and self._quiet_bytes > HEAD_LIMIT and not self.transport.is_closing():
            self._fault = Refusal(431, "invalid_request_error", f"the request's head is larger than {HEAD_LIMIT} bytes")
            self.send_400_response("")

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
        if name.lower() == b"transfer-encoding" and value.strip().lower() != b"chunked":
            self._stop(400, "the only transfer-encoding understood is chunked")
        super().on_header(name, value)

    def on_headers_complete(self) -> None:
        self._in_head = False
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
        self.deadline = self.loop.time() + BODY_SECONDS
        super().on_headers_complete()

    def on_body(self, body: bytes) -> None:
        self._quiet_bytes = 0
        if self.cycle.response_complete:
            # An answer that did not wait for the body. What is left of it is read, so that the answer gets through.
            self._discarded += len(body)
            if self._discarded > _DISCARD_LIMIT:
                self.transport.abort()
        super().on_body(body)

    def on_message_complete(self) -> None:
        self._in_message = False
        self._quiet_bytes = 0
        self.deadline = _NEVER
        super().on_message_complete()

    def expire(self, now: float) -> None:
        """Cut the connection if its request is late. Time in which nothing was read from it doesn't count."""
        if now < self.deadline:
            return
        if self.flow.read_paused and not self.transport.is_closing():
            self.deadline = now + BODY_SECONDS
        else:
            self.transport.abort()

    def cut(self) -> None:
        """Close the connection; what is written already still goes out, to a client that reads."""
        self.deadline = self.loop.time() + CLOSE_SECONDS
        self.transport.close()

    def send_400_response(self, msg: str) -> None:  # noqa: ARG002  # the name and the text are uvicorn's
        """Answer what can't be understood, unless an answer to an earlier request is due or under way."""
        cycle = cast("RequestResponseCycle | None", self.cycle)
        if cycle is not None and not cycle.response_complete and (cycle.response_started or not cycle.more_body):
            self.transport.abort()
            return
        request_id = f"tf_{secrets.token_hex(12)}"
        content = self._fault.body(request_id)
        lines = [b"HTTP/1.1 %d \r\n" % self._fault.status]
        headers = [*self._fault.head(len(content)), (REQUEST_ID, request_id.encode()), (b"connection", b"close")]
        lines.extend(b"%b: %b\r\n" % header for header in headers)
        self.transport.write(b"".join((*lines, b"\r\n", content)))
        self.cut()

    def _stop(self, status: int, message: str) -> None:
        self._fault = Refusal(status, "invalid_request_error", message)
        raise _Stop
