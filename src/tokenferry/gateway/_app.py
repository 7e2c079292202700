import logging
import secrets
import time
from collections.abc import Callable
from dataclasses import dataclass
from typing import Final

from tokenferry.errors import TokenferryError
from tokenferry.gateway._answers import REQUEST_ID, Refusal, error_event, refusal_of
from tokenferry.gateway._events import EventBoundary
from tokenferry.gateway._guard import Guard
from tokenferry.gateway._headers import Header, is_event_stream
from tokenferry.gateway._relay import Answer, Record, Relay
from tokenferry.gateway._request import (
    BODY_LIMIT,
    Body,
    Budget,
    ClientGone,
    Receive,
    Request,
    Scope,
    Send,
    read_body,
    too_large,
)
from tokenferry.gateway._routes import CONSTANTS, Route, route
from tokenferry.gateway._watch import ClientWatch
from tokenferry.gateway.upstream import UpstreamError

logger = logging.getLogger("tokenferry.gateway")

TARGET: Final = "tokenferry.target"
"""In a scope: the request target as it was sent."""
CUT: Final = "tokenferry.cut"
"""In a scope: a call that ends the connection without ending the answer."""

_CLIENT_GONE: Final = 499  # nginx's word for it; only ever logged


class _Truncated(Exception):  # noqa: N818  # a signal between two methods
    """The upstream was cut, and only a cut connection can tell the client so."""


class _Out:
    """The client's side of one exchange."""

    __slots__ = ("_request_id", "_send", "is_started", "status")

    def __init__(self, send: Send, request_id: str) -> None:
        self._send = send
        self._request_id = request_id
        self.is_started = False
        self.status = 0

    async def head(self, status: int, headers: list[Header]) -> None:
        self.is_started = True
        self.status = status
        headers = [*headers, (REQUEST_ID, self._request_id.encode("ascii"))]
        await self._send({"type": "http.response.start", "status": status, "headers": headers})

    async def body(self, chunk: bytes) -> None:
        await self._send({"type": "http.response.body", "body": chunk, "more_body": True})

    async def end(self, chunk: bytes = b"") -> None:
        await self._send({"type": "http.response.body", "body": chunk, "more_body": False})


@dataclass(frozen=True, slots=True)
class GatewayStatistics:
    """`held_bytes` is what request bodies take up in memory."""

    in_flight: int
    served: int
    held_bytes: int


class Gateway:
    """The data plane as an ASGI application. It needs the listener of this package, which parses strictly."""

    def __init__(
        self,
        *,
        guard: Guard,
        relay: Relay,
        body_limit: int = BODY_LIMIT,
        budget: Budget | None = None,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self._guard = guard
        self._relay = relay
        self._body_limit = body_limit
        self._budget = budget or Budget()
        self._clock = clock
        self._in_flight = 0
        self._served = 0

    def statistics(self) -> GatewayStatistics:
        return GatewayStatistics(in_flight=self._in_flight, served=self._served, held_bytes=self._budget.held)

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http":
            return
        started = self._clock()
        record = Record(f"tf_{secrets.token_hex(12)}", scope["method"], scope["raw_path"].decode("ascii"))
        out = _Out(send, record.request_id)
        self._in_flight += 1
        try:
            await self._answer(scope, receive, out, record)
        finally:
            self._in_flight -= 1
            self._served += 1
            logger.info(
                "%s %s %s %d account=%s provider=%s %d ms",
                record.request_id,
                record.method,
                record.path,
                record.status or out.status,
                record.account,
                record.provider,
                (self._clock() - started) * 1000,
            )

    async def _answer(self, scope: Scope, receive: Receive, out: _Out, record: Record) -> None:
        refusal: Refusal | None = None
        try:
            await self._serve(scope, receive, out, record)
        except ClientGone:
            record.status = _CLIENT_GONE
        except _Truncated:
            await _cut(scope, receive)
        except Refusal as fault:
            refusal = fault
        except TokenferryError as fault:
            logger.warning("%s %s", record.request_id, fault)
            refusal = refusal_of(fault)
        except Exception:
            logger.exception("%s failed", record.request_id)
            refusal = Refusal(500, "api_error", "the gateway failed; its log says why, under this request's id")
        if refusal is None:
            return
        if out.is_started:
            await _cut(scope, receive)
        else:
            await _refuse(out, refusal, record, scope)

    async def _serve(self, scope: Scope, receive: Receive, out: _Out, record: Record) -> None:
        headers: list[Header] = scope["headers"]
        self._guard.check_source(headers)
        found = route(scope["method"], scope["raw_path"])
        if found is Route.CONSTANT:
            await _constant(scope, out)
            return
        if scope["method"] == "POST":
            self._guard.check_content_type(headers)
        self._guard.check_key(headers)
        if _declared_length(headers) > self._body_limit:
            raise too_large(self._body_limit)
        body = Body(self._budget)
        try:
            await read_body(receive, body, self._body_limit)
            request = Request(scope["method"], scope[TARGET], headers, body)
            async with ClientWatch(receive):
                answer = await self._relay.open(request, record, is_inference=found is Route.INFERENCE)
                body.release()
                try:
                    await _pass_on(answer, out, record)
                finally:
                    answer.abort()
        finally:
            body.release()


async def _constant(scope: Scope, out: _Out) -> None:
    content = CONSTANTS[scope["raw_path"]]
    headers = [(b"content-type", b"application/json"), (b"content-length", b"%d" % len(content))]
    await out.head(200, headers)
    await out.end(b"" if scope["method"] == "HEAD" else content)


async def _pass_on(answer: Answer, out: _Out, record: Record) -> None:
    await out.head(answer.status, answer.headers)
    if is_event_stream(answer.headers):
        await _pass_events(answer, out, record)
        return
    try:
        async for chunk in answer.body():
            await out.body(chunk)
    except UpstreamError as fault:
        logger.warning("%s %s", record.request_id, fault)
        raise _Truncated from None
    await out.end()


async def _pass_events(answer: Answer, out: _Out, record: Record) -> None:
    events = EventBoundary()
    try:
        async for chunk in answer.body():
            if passing := events.feed(chunk):
                await out.body(passing)
    except UpstreamError as fault:
        logger.warning("%s %s", record.request_id, fault)
        # Inside an event that has partly passed, a further line makes that one the error.
        start = b"\n" if events.is_inside else b""
        await out.end(start + error_event("api_error", f"the answer was cut off: {fault}", record.request_id))
        return
    rest = events.rest()
    if events.is_complete:
        await out.end(rest)
        return
    # It ended of its own accord, but not as a whole message does: a truncated stream never looks complete.
    logger.warning("%s the upstream ended its stream without message_stop", record.request_id)
    reason = "the upstream ended the answer before it was complete"
    await out.end(rest + b"\n\n" * bool(rest) + error_event("api_error", reason, record.request_id))


async def _refuse(out: _Out, refusal: Refusal, record: Record, scope: Scope) -> None:
    content = refusal.body(record.request_id)
    headers = refusal.head(len(content))
    if any(name == b"expect" for name, _ in scope["headers"]):
        # The client may or may not send its body now: only a new connection is unambiguous (RFC 9110, 10.1.1).
        headers.append((b"connection", b"close"))
    await out.head(refusal.status, headers)
    await out.end(b"" if scope["method"] == "HEAD" else content)


async def _cut(scope: Scope, receive: Receive) -> None:
    """End the connection in the middle of the answer, and wait until it is ended."""
    scope[CUT]()
    while (await receive())["type"] != "http.disconnect":
        pass


def _declared_length(headers: list[Header]) -> int:
    # The parser has made sure that it is a number, and the only one.
    return next((int(value) for name, value in headers if name == b"content-length"), 0)
