import logging
import secrets
import time
from collections.abc import Callable
from typing import Final

from tokenferry.errors import TokenferryError
from tokenferry.gateway._access_log import AccessLog, told, told_path
from tokenferry.gateway._answers import Refusal, refusal_of
from tokenferry.gateway._control import Control, ControlPlane, is_control, refusal_answer
from tokenferry.gateway._decision_log import DecisionLog
from tokenferry.gateway._guard import Guard
from tokenferry.gateway._headers import Header
from tokenferry.gateway._metrics import GatewayStatistics, Metrics
from tokenferry.gateway._models import requested_model
from tokenferry.gateway._out import Out
from tokenferry.gateway._pass_on import Truncated, is_stream, pass_document, pass_events
from tokenferry.gateway._record import Record
from tokenferry.gateway._relay import Answer, Relay
from tokenferry.gateway._request import (
    BODY_LIMIT,
    Body,
    Budget,
    ClientGone,
    ClientWatch,
    Receive,
    Request,
    Scope,
    Send,
    read_body,
    too_large,
)
from tokenferry.gateway._routes import CONSTANTS, Route, route

logger = logging.getLogger("tokenferry.gateway")

TARGET: Final = "tokenferry.target"
"""In a scope: the request target as it was sent."""
CUT: Final = "tokenferry.cut"
"""In a scope: a call that ends the connection without ending the answer."""
WHEN_GONE: Final = "tokenferry.when_gone"
"""In a scope: where to say what is to happen if the client leaves."""
REFUSED: Final = "tokenferry.refused"
"""In a scope: the `Refusal` that the listener itself answered with, if it did."""
UNIX: Final = "tokenferry.unix"
"""In a scope: whether the request came over a Unix socket."""
NO_ROOM: Final = "tokenferry.no_room"
"""In a scope: whether the listener has as many connections as it may."""

_CLIENT_GONE: Final = 499  # nginx's word for it; only ever logged
_CLAUDE_CODE: Final = b"x-claude-code-"


class Gateway:
    """The data plane as an ASGI application. It needs the listener of this package, which parses strictly."""

    def __init__(
        self,
        *,
        guard: Guard,
        relay: Relay,
        access_log: AccessLog | None = None,
        metrics: Metrics | None = None,
        decision_log: DecisionLog | None = None,
        control: Control | None = None,
        body_limit: int = BODY_LIMIT,
        budget: Budget | None = None,
        clock: Callable[[], float] = time.monotonic,
        now: Callable[[], float] = time.time,
    ) -> None:
        self._guard = guard
        self._relay = relay
        self._access_log = access_log
        self._metrics = metrics
        self._decision_log = decision_log
        self._body_limit = body_limit
        self._budget = budget or Budget()
        self._control = None if control is None else ControlPlane(control, guard, self._budget)
        self._clock = clock
        self._now = now
        self._in_flight = self._streams = self._served = 0
        if metrics is not None:
            metrics.watch(self.statistics)

    def statistics(self) -> GatewayStatistics:
        return GatewayStatistics(
            in_flight=self._in_flight,
            streams=self._streams,
            served=self._served,
            held_bytes=self._budget.held,
            log_lines_dropped=0 if self._access_log is None else self._access_log.dropped,
        )

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http":
            return
        record = Record(f"tf_{secrets.token_hex(12)}", scope["method"], told_path(scope["raw_path"]), self._now())
        out = Out(send, record, self._clock)
        self._in_flight += 1
        try:
            await self._answer(scope, receive, out, record)
        finally:
            self._in_flight -= 1
            self._served += 1
            out.close()
            self._keep(record)

    def take_note(self, request_id: str, refusal: Refusal) -> None:
        """Record the listener's own answer to what could not be read as a request."""
        self._keep(Record(request_id, "-", "-", self._now(), status=refusal.status, error=refusal.cause))

    def _keep(self, record: Record) -> None:
        if self._metrics is not None:
            self._metrics.add(record)
        if self._access_log is not None:
            self._access_log.add(record)
        if self._decision_log is not None and record.decision is not None:
            self._decision_log.add(record)

    async def _answer(self, scope: Scope, receive: Receive, out: Out, record: Record) -> None:
        refusal: Refusal | None = None
        try:
            await self._serve(scope, receive, out, record)
        except ClientGone:
            told: Refusal | None = scope.get(REFUSED)
            record.status = _CLIENT_GONE if told is None else told.status
            record.error = "client_gone" if told is None else told.cause
        except Truncated:
            await _cut(scope, receive)
        except Refusal as fault:
            refusal = fault
        except TokenferryError as fault:
            logger.warning("%s %s", record.request_id, fault)
            refusal = refusal_of(fault)
        except Exception:
            logger.exception("%s failed", record.request_id)
            message = "the gateway failed; its log says why, under this request's id"
            refusal = Refusal(500, "api_error", message, cause="defect")
        if refusal is None:
            return
        record.error = refusal.cause
        if record.decision is not None:
            record.decision.message = refusal.message
        if out.is_started:
            await _cut(scope, receive)
        else:
            is_controlled = self._control is not None and is_control(scope["raw_path"])
            await _refuse(out, refusal, record, scope, is_controlled=is_controlled)

    async def _serve(self, scope: Scope, receive: Receive, out: Out, record: Record) -> None:
        if scope.get(NO_ROOM, False):
            raise Refusal(
                503,
                "api_error",
                "the gateway has as many connections as it may; close some, or try again in a moment",
                should_retry=True,
                retry_after=1,
                cause="no_room",
            )
        headers: list[Header] = scope["headers"]
        if self._control is not None and is_control(scope["raw_path"]):
            await self._control.serve(
                scope, receive, out, record, address=_address(scope), on_unix_socket=scope.get(UNIX, False)
            )
            return
        self._guard.check_source(headers, on_unix_socket=scope.get(UNIX, False))
        found = route(scope["method"], scope["raw_path"])
        if found is Route.CONSTANT:
            await _constant(scope, out)
            return
        if found is Route.METRICS:
            record.client = self._guard.check_key(headers, _address(scope), admin=True).name
            await self._tell_metrics(headers, out)
            return
        if scope["method"] == "POST":
            self._guard.check_content_type(headers)
        record.client = self._guard.check_key(headers, _address(scope)).name
        if _take_note(headers, record) > self._body_limit:
            raise too_large(self._body_limit)
        body = Body(self._budget)
        try:
            await read_body(receive, body, self._body_limit)
            record.bytes_in = body.size
            request = Request(scope["method"], scope[TARGET], headers, body)
            if found is Route.INFERENCE and (model := requested_model(body.chunks)) is not None:
                record.model = told(model)
            with ClientWatch(scope[WHEN_GONE]):
                answer = await self._relay.open(request, record, is_inference=found is Route.INFERENCE)
                body.release()
                try:
                    await self._pass_on(answer, out, record)
                finally:
                    answer.abort()
        finally:
            body.release()

    async def _pass_on(self, answer: Answer, out: Out, record: Record) -> None:
        if not is_stream(answer):
            await pass_document(answer, out, record)
            return
        self._streams += 1
        try:
            await pass_events(answer, out, record)
        finally:
            self._streams -= 1

    async def _tell_metrics(self, headers: list[Header], out: Out) -> None:
        if self._metrics is None:
            raise Refusal(404, "not_found_error", "this gateway counts nothing; ask one that tokenferry serve runs")
        accept = b",".join(value for name, value in headers if name == b"accept").decode("latin-1")
        content, kind = await self._metrics.answer(accept)
        length = b"%d" % len(content)
        await out.head(200, [(b"content-type", kind.encode("ascii")), (b"content-length", length)])
        await out.end(content)


def _address(scope: Scope) -> str | None:
    """The client's; None over a Unix socket."""
    client = scope.get("client")
    return None if client is None else str(client[0])


async def _constant(scope: Scope, out: Out) -> None:
    content = CONSTANTS[scope["raw_path"]]
    headers = [(b"content-type", b"application/json"), (b"content-length", b"%d" % len(content))]
    await out.head(200, headers)
    await out.end(b"" if scope["method"] == "HEAD" else content)


async def _refuse(out: Out, refusal: Refusal, record: Record, scope: Scope, *, is_controlled: bool) -> None:
    if is_controlled:
        headers, content = refusal_answer(refusal)
    else:
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


def _take_note(headers: list[Header], record: Record) -> int:
    """Record what Claude Code tells of a request's place in its work; give the length of the body, if that is told."""
    length = 0
    for name, value in headers:
        if name == b"content-length":
            length = int(value)  # the parser has made sure that it is a number, and the only one
        elif name.startswith(_CLAUDE_CODE):
            match name:
                case b"x-claude-code-session-id":
                    record.session = told(value)
                case b"x-claude-code-agent-id":
                    record.agent = told(value)
                case b"x-claude-code-parent-agent-id":
                    record.parent_agent = told(value)
    return length
