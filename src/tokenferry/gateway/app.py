import asyncio
import json
import logging
import time
from collections.abc import Callable
from functools import partial
from typing import Final, Literal, TypeAlias

from tokenferry.budgets import BudgetBook
from tokenferry.gateway.auth.guard import Guard, UnknownKey, check_query
from tokenferry.gateway.auth.key_rates import KeyRates
from tokenferry.gateway.control.control_plane import Control, ControlPlane, TrackedSend, error_answer, is_control
from tokenferry.gateway.http.client_api import GEMINI, api_of
from tokenferry.gateway.http.errors import GatewayError
from tokenferry.gateway.http.handler import RequestLine
from tokenferry.gateway.http.headers import Header
from tokenferry.gateway.http.model_path import model_path, take_key
from tokenferry.gateway.http.request_id import new_request_id
from tokenferry.gateway.http.response_writer import AnswerWriter
from tokenferry.gateway.proxy.body import BODY_LIMIT, BodyBudget, ClientGone, Receive, Scope, Send
from tokenferry.gateway.proxy.exchange import CLIENT_GONE, Exchange, gateway_error_for, no_room
from tokenferry.gateway.proxy.forwarder import Forwarder
from tokenferry.gateway.proxy.gemini_exchange import GeminiExchange
from tokenferry.gateway.proxy.model_listing import ListingExchange
from tokenferry.gateway.proxy.token_counts import TokenRatios
from tokenferry.gateway.proxy.unpriced_exchange import UnpricedExchange
from tokenferry.gateway.routes import CONSTANTS, READY, Endpoint, proxied, route
from tokenferry.gateway.telemetry.access_log import AccessLog
from tokenferry.gateway.telemetry.decision_log import DecisionLog
from tokenferry.gateway.telemetry.metric_families import GatewayStatistics
from tokenferry.gateway.telemetry.metrics import Metrics
from tokenferry.gateway.telemetry.record import RequestRecord
from tokenferry.gateway.telemetry.usage_log import UsageLog
from tokenferry.routing import loggable_path

logger = logging.getLogger("tokenferry.gateway")

REQUEST: Final = "tokenferry.request_id"
"""In a scope: the request's id."""
REFUSED: Final = "tokenferry.refused"
"""In a scope: the `GatewayError` with which the listener itself answered, if it did."""
UNIX: Final = "tokenferry.unix"
"""In a scope: whether the request came over a Unix socket."""
NO_ROOM: Final = "tokenferry.no_room"
"""In a scope: whether the listener is at its limit of connections."""

Phase: TypeAlias = Literal["starting", "serving", "draining"]
"""The phase of a gateway, set by its server."""

_BATCH: Final = 64
_BATCH_SECONDS: Final = 0.01


class Gateway:
    """Answers requests: proxies inference by callbacks, and is an ASGI application for all others.

    It relies on this package's listener, which parses strictly.
    """

    def __init__(
        self,
        *,
        guard: Guard,
        forwarder: Forwarder,
        access_log: AccessLog | None = None,
        metrics: Metrics | None = None,
        decision_log: DecisionLog | None = None,
        usage_log: UsageLog | None = None,
        control: Control | None = None,
        body_limit: int = BODY_LIMIT,
        budget: BodyBudget | None = None,
        budgets: BudgetBook | None = None,
        key_rates: KeyRates | None = None,
        clock: Callable[[], float] = time.monotonic,
        now: Callable[[], float] = time.time,
        unready: Callable[[], str] = str,
    ) -> None:
        """`unready` gives the reason why a load balancer should send requests elsewhere; empty without one."""
        self.guard = guard
        self.forwarder = forwarder
        self.budget = budget or BodyBudget()
        self.budgets = budgets or BudgetBook()
        self.key_rates = key_rates or KeyRates(clock)
        self.token_ratios = TokenRatios()
        self.body_limit = body_limit
        self.clock = clock
        self.running: set[Exchange] = set()
        """The proxied requests in progress."""
        self.streams = self._answering = 0
        self.phase: Phase = "starting"
        self._unready = unready
        self._access_log = access_log
        self._metrics = metrics
        self._logs: list[DecisionLog | UsageLog] = [log for log in (decision_log, usage_log) if log is not None]
        """The logs of admitted requests."""
        self._control = None if control is None else ControlPlane(control, guard, self.budget)
        self._now = now
        self._ended: list[RequestRecord] = []
        self._served = self._malformed = 0
        if metrics is not None:
            metrics.watch(self.statistics)

    def unready(self) -> str:
        """Give the reason why a load balancer should send requests elsewhere; empty while it serves."""
        return self.phase if self.phase != "serving" else self._unready()

    def statistics(self) -> GatewayStatistics:
        """Give the statistics. Every ended request is counted."""
        self.settle()
        return GatewayStatistics(
            in_flight=self.in_flight,
            streams=self.streams,
            waiting=len(self.forwarder.pool.waiting),
            served=self._served - self._malformed,
            held_bytes=self.budget.held,
            log_lines_dropped=0 if self._access_log is None else self._access_log.dropped,
        )

    @property
    def in_flight(self) -> int:
        """The number of requests in progress, of all kinds."""
        return len(self.running) + self._answering

    def exchange(self, head: RequestLine, writer: AnswerWriter) -> Exchange | None:
        """Give the exchange for a proxied request; None for one that the ASGI application answers."""
        found = proxied(head.method, head.path)
        if found is None:
            return None
        record = RequestRecord(new_request_id(), head.method, loggable_path(head.path), self._now())
        if found is Endpoint.MODELS:
            return ListingExchange(self, head, writer, record)
        if found is Endpoint.UNPRICED:
            return UnpricedExchange(self, head, writer, record)
        if (asked := model_path(head.path)) is not None:
            return GeminiExchange(self, head, writer, record, asked)
        return Exchange(self, head, writer, record, is_inference=found is Endpoint.INFERENCE)

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http":
            return
        record = RequestRecord(scope[REQUEST], scope["method"], loggable_path(scope["raw_path"]), self._now())
        out = TrackedSend(send, record, self.clock)
        self._answering += 1
        try:
            await self._answer(scope, receive, out, record)
        finally:
            self._answering -= 1
            out.close()
            refused: GatewayError | None = scope.get(REFUSED)
            if refused is not None:
                record.status, record.error = refused.status, refused.cause
            self.add_record(record)

    def record_malformed(self, request_id: str, error: GatewayError) -> None:
        """Record the listener's own answer to a malformed request."""
        self._malformed += 1
        self.add_record(RequestRecord(request_id, "-", "-", self._now(), status=error.status, error=error.cause))

    def add_record(self, record: RequestRecord) -> None:
        """Add the record of an ended request, which is counted and logged in a batch."""
        ended = self._ended
        ended.append(record)
        if len(ended) >= _BATCH:
            self.settle()
        elif len(ended) == 1:
            asyncio.get_running_loop().call_later(_BATCH_SECONDS, self.settle)

    def settle(self) -> None:
        """Count and log the ended requests."""
        ended, self._ended = self._ended, []
        if not ended:
            return
        self._served += len(ended)
        if self._metrics is not None:
            self._metrics.add(*ended)
        if self._access_log is not None:
            self._access_log.add(*ended)
        if admitted := [record for record in ended if record.decision is not None]:
            for log in self._logs:
                log.add(*admitted)

    async def _answer(self, scope: Scope, receive: Receive, out: TrackedSend, record: RequestRecord) -> None:
        try:
            await self._serve(scope, receive, out, record)
        except ClientGone:
            record.status, record.error = CLIENT_GONE, "client_gone"
        except Exception as fault:  # noqa: BLE001  # answered or logged
            error = gateway_error_for(fault, record)
            record.error = error.cause
            if not out.is_started:  # otherwise the listener cuts the answer
                is_controlled = self._control is not None and is_control(scope["raw_path"])
                await _refuse(out, error, record, scope, is_controlled=is_controlled)

    async def _serve(self, scope: Scope, receive: Receive, out: TrackedSend, record: RequestRecord) -> None:
        if scope.get(NO_ROOM, False):
            raise no_room()
        headers: list[Header] = scope["headers"]
        if self._control is not None and self._control.owns(scope):
            await self._control.serve(
                scope, receive, out, record, address=_address(scope), on_unix_socket=scope.get(UNIX, False)
            )
            return
        query = b"?" + scope["query_string"]
        check_query(take_key(query)[0] if api_of(scope["raw_path"]) is GEMINI else query)
        self.guard.check_source(headers, on_unix_socket=scope.get(UNIX, False))
        found = route(scope["method"], scope["raw_path"])
        if found is Endpoint.CONSTANT:
            why = self.unready() if scope["raw_path"] == READY else ""
            await _constant(scope, out, why)
        elif found is Endpoint.METRICS:
            check = partial(self.guard.check_key, headers, _address(scope), roles=("admin", "viewer", "metrics"))
            try:
                record.client = check().name
            except UnknownKey as refusal:
                await self.guard.look_up(refusal, headers)
                record.client = check().name
            await self._send_metrics(headers, out)

    async def _send_metrics(self, headers: list[Header], out: TrackedSend) -> None:
        if self._metrics is None:
            raise GatewayError(
                404, "not_found_error", "metrics are not enabled here; use the gateway started by: tokenferry serve"
            )
        accept = b",".join(value for name, value in headers if name == b"accept").decode("latin-1")
        content, kind = await self._metrics.answer(accept)
        length = b"%d" % len(content)
        await out.head(200, [(b"content-type", kind.encode("ascii")), (b"content-length", length)])
        await out.end(content)


def _address(scope: Scope) -> str | None:
    """Give the client's address; None over a Unix socket."""
    client = scope.get("client")
    return None if client is None else str(client[0])


async def _constant(scope: Scope, out: TrackedSend, unready: str) -> None:
    content = CONSTANTS[scope["raw_path"]]
    if unready:
        content = json.dumps({"status": "not ready", "reason": unready}, separators=(",", ":")).encode()
    headers = [(b"content-type", b"application/json"), (b"content-length", b"%d" % len(content))]
    await out.head(503 if unready else 200, headers)
    await out.end(b"" if scope["method"] == "HEAD" else content)


async def _refuse(
    out: TrackedSend, error: GatewayError, record: RequestRecord, scope: Scope, *, is_controlled: bool
) -> None:
    if is_controlled:
        headers, content = error_answer(error, scope["raw_path"])
    else:
        content = error.body(record.request_id, api_of(scope["raw_path"]))
        headers = error.head(len(content))
    if any(name == b"expect" for name, _ in scope["headers"]):
        # The client may or may not send its body now, so the connection must close (RFC 9110, 10.1.1).
        headers.append((b"connection", b"close"))
    await out.head(error.status, headers)
    await out.end(b"" if scope["method"] == "HEAD" else content)
