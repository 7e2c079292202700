"""One proxied request, from its head to the end of its response."""

import asyncio
import logging
from collections.abc import Callable
from typing import Final, Protocol

from msgspec.structs import replace

from tokenferry.budgets import BudgetBook, BudgetRefusal, RequestSize, Reservation
from tokenferry.errors import TokenferryError
from tokenferry.gateway.auth.guard import Guard, UnknownKey, check_query
from tokenferry.gateway.auth.key_rates import KeyRates
from tokenferry.gateway.auth.passthrough import presented_own
from tokenferry.gateway.http.client_api import CLIENT_APIS, GEMINI, MESSAGES, RESPONSES
from tokenferry.gateway.http.errors import REQUEST_ID, GatewayError, gateway_error_of
from tokenferry.gateway.http.handler import RequestLine
from tokenferry.gateway.http.headers import ResponseHeaders, lines_of
from tokenferry.gateway.http.model_path import take_key
from tokenferry.gateway.http.response_writer import AnswerWriter
from tokenferry.gateway.proxy.attempt import AttemptRunner
from tokenferry.gateway.proxy.body import BodyBudget, ProxyRequest, RequestBody, parse_body, too_large
from tokenferry.gateway.proxy.budget_answers import budget_error, budget_lines
from tokenferry.gateway.proxy.forwarder import Forwarder
from tokenferry.gateway.proxy.token_counts import TokenRatios, count_answer
from tokenferry.gateway.telemetry.record import RequestRecord, RoutingDecision
from tokenferry.gateway.telemetry.usage_log import token_counts
from tokenferry.pool import Target
from tokenferry.rates import Permit
from tokenferry.routing import loggable
from tokenferry.settings import NO_CAPS
from tokenferry.state import ClientKey
from tokenferry.streaming import BodyFilter, DocumentFilter, EventStreamFilter, TokenUsage
from tokenferry.upstream import ResponseHead, UpstreamError
from tokenferry.wire import SMALLEST_FILE, BodySize

logger = logging.getLogger("tokenferry.gateway")

CLIENT_GONE: Final = 499  # nginx's code; only logged, never sent
_OK: Final = 200
_BAD_REQUEST: Final = 400


class ProxyState(Protocol):
    """The state that a gateway's exchanges share."""

    guard: Guard
    forwarder: Forwarder
    budget: BodyBudget
    budgets: BudgetBook
    key_rates: KeyRates
    token_ratios: TokenRatios
    body_limit: int
    clock: Callable[[], float]
    running: "set[Exchange]"
    """The exchanges in progress."""
    streams: int

    def add_record(self, record: RequestRecord, /) -> None:
        """Add the final record of an ended request."""


class Exchange:
    """A proxied request and its response, driven by callbacks: a `RequestHandler`, and its runner's `ResponseSink`."""

    # Defaults of the class: most requests never set these, so they cost nothing.
    _is_begun = _is_whole = _is_opened = _is_over = _is_paused = _is_stream = False
    _is_json = True
    """Whether a body must be JSON."""
    _side = ""
    """The name of a side route, where it isn't the whole path."""
    _is_aside: bool | None = None
    """Whether it asks for anything but an answer of the model; None if the path decides."""
    _frame: Callable[[EventStreamFilter, ResponseHeaders], BodyFilter] | None = None
    """Wraps a stream in another framing than events."""
    _overflow: GatewayError | None = None
    _key: ClientKey | None = None
    _request: ProxyRequest | None = None
    _runner: AttemptRunner | None = None
    _filter: BodyFilter | None = None
    _reservation: Reservation | None = None
    _permit: Permit | None = None
    _lookup: "asyncio.Task[None] | None" = None
    """Looks up an unknown key in the database."""
    _tokens = 0
    """The expected use, where a rate limit counts tokens."""
    _input_size: BodySize | None = None
    """Set with a good answer: estimates the input tokens if the upstream doesn't report them."""

    def __init__(
        self,
        state: ProxyState,
        head: RequestLine,
        writer: AnswerWriter,
        record: RequestRecord,
        *,
        is_inference: bool,
    ) -> None:
        self.writer = writer
        self._state = state
        self._forwarder = state.forwarder
        self._head = head
        self._record = record
        self._target = head.target
        self._client = CLIENT_APIS.get(head.path, MESSAGES)
        self._is_inference = is_inference
        self._started = state.clock()
        self._body = RequestBody(state.budget)
        state.running.add(self)

    # Read by other threads.

    @property
    def record(self) -> RequestRecord:
        """The record, which is filled as the request proceeds."""
        return self._record

    @property
    def account(self) -> str:
        """The account of the current or last attempt; empty before the first."""
        runner = self._runner
        return "" if runner is None else runner.account

    @property
    def stage(self) -> str:
        """What the request is doing, for a list of running requests."""
        if self._filter is not None:
            return "is answered"
        runner = self._runner
        return "arrives" if runner is None else runner.stage

    # Events of the connection.

    def take(self, chunk: bytes) -> None:
        if self._overflow is None and not self._is_over:
            try:
                self._body.add(chunk, self._state.body_limit)
            except GatewayError as error:
                self._overflow = error  # raised in `proceed`, after the checks of the head

    def complete(self) -> None:
        self._is_whole = True
        if self._is_begun:  # otherwise none of it counts as arriving yet
            self._body.complete()

    def proceed(self) -> None:
        if self._is_over or self._is_opened or self._lookup is not None:
            return
        try:
            if not self._is_begun:
                self._is_begun = True
                self._begin()
            if self._overflow is not None:
                self.fail(self._overflow)
            elif self._is_whole:
                self._is_opened = True
                self._open()
        except UnknownKey as refusal:
            self._lookup = asyncio.get_running_loop().create_task(self._look_up(refusal))
        except Exception as fault:  # noqa: BLE001  # answered or logged
            self.fail(fault)

    async def _look_up(self, refusal: UnknownKey) -> None:
        """Proceed if the database has the key; otherwise refuse it."""
        read = self._head.read
        try:
            await self._state.guard.look_up(refusal, read.keys or read.credentials)
        except Exception as fault:  # noqa: BLE001  # as above
            if not self._is_over:
                self.fail(fault)
            return
        self._lookup, self._is_begun = None, False
        self.proceed()

    def pause(self) -> None:
        self._is_paused = True
        if self._runner is not None:
            self._runner.pause()

    def resume(self) -> None:
        self._is_paused = False
        if self._runner is not None:
            self._runner.resume()

    def refuse(self, error: GatewayError) -> None:
        self.writer.keep = False
        self.fail(error)

    def disconnected(self) -> None:
        if not self._is_over:
            self._record.status = CLIENT_GONE
            self._record.error = "client_gone"
            self._finish()

    # Events of the runner.

    def begin(self, head: ResponseHead, headers: ResponseHeaders) -> None:
        """Begin to forward the response."""
        record, dialect = self._record, self._client.dialect
        facts = self._body.facts
        if facts is not None and head.status < _BAD_REQUEST:
            size = len(facts.body)
            self._input_size = facts.size if size > SMALLEST_FILE else BodySize(size)
        self._body.release()
        if self._request is not None and self._request.sent:
            self._request.sent = {}
        # A translated answer is counted by its upstream's report, not by this filter.
        usage = record.usage if record.translated is None else TokenUsage()
        # Only an event stream can end with an event that says it was cut.
        if head.status < _BAD_REQUEST and headers.is_event_stream:
            events = EventStreamFilter(usage, record.request_id, dialect)
            self._filter = events if self._frame is None else self._frame(events, headers)
            self._is_stream = True
            self._state.streams += 1
        else:
            is_json, is_answer = headers.is_json, self._is_inference and not record.is_side
            self._filter = DocumentFilter(
                head.status, usage, record.request_id, dialect, is_readable=is_json, is_answer=is_answer
            )
        if self._reservation is not None and head.status < _BAD_REQUEST and not self._state.budgets.is_away:
            headers.lines += budget_lines(self._reservation)
        self._start(head.status, headers.lines, headers.length)

    def _count_input(self, runner: AttemptRunner, size: BodySize) -> None:
        """Estimate the input tokens that the upstream didn't report, which a client can cause; else learn from them."""
        ratios, usage, target = self._state.token_ratios, self._record.usage, runner.target
        if target is None or self._request is None or self._request.is_side:
            return
        if usage.input is None:
            usage.input, usage.is_estimated = ratios.estimate(target, size), True
        elif prompt := token_counts(usage).prompt:
            ratios.learn(target, size, prompt)

    def feed(self, chunk: bytes) -> None:
        body = self._filter
        assert body is not None
        passing = body.feed(chunk)
        if passing:
            self._record.bytes_out += len(passing)
            self.writer.write(passing)
        if body.is_over:
            self._end()

    def end(self) -> None:
        if not self._is_over:
            assert self._filter is not None
            rest = self._filter.end()
            if rest:
                self._write(rest)
            self._end()

    def cut(self, failure: UpstreamError) -> None:
        if self._is_over:
            return
        assert self._filter is not None
        rest = self._filter.cut(failure)
        if rest is None:
            self._cut()
        else:
            if rest:
                self._write(rest)
            self._end()

    # Steps.

    def _begin(self) -> None:
        """Check the request's head, before its body is read. Raises `GatewayError`."""
        state, head, record = self._state, self._head, self._record
        if not head.has_room:
            raise no_room()
        read = head.read
        if head.target != head.path:
            self._check_query()
            read = self._head.read
        self._key = state.guard.admit(read, head.address, has_body=self._is_json and head.method == "POST")
        record.client, record.key_id = self._key.name, self._key.id
        if read.vias and self._forwarder.is_loop(read.vias):
            raise _loop()
        if read.session is not None:
            record.session = loggable(read.session)
            record.agent = None if read.agent is None else loggable(read.agent)
            record.parent_agent = None if read.parent_agent is None else loggable(read.parent_agent)
        # The parser has checked that there is one length, and that it is a number.
        if head.length is not None and int(head.length) > state.body_limit:
            raise too_large(state.body_limit)
        if self._is_whole:
            self._body.claim(self._key.id)
        else:
            self._body.claim(self._key.id, self.refuse)
            self.writer.go_on()

    def _check_query(self) -> None:
        """Raise `GatewayError` for a key in the query. Only Gemini's clients may put theirs there."""
        if self._client is GEMINI:
            self._target, key = take_key(self._target)
            if key is not None:
                read = self._head.read.with_credential((b"x-goog-api-key", key.encode("latin-1", "replace")))
                self._head = replace(self._head, read=read)
        check_query(self._target)

    def _open(self) -> None:
        """Parse the complete request, check its rates, and forward it."""
        head, record, body = self._head, self._record, self._body
        record.bytes_in = body.size
        client = self._client
        request = self._request = ProxyRequest(
            head.method,
            self._target[len(client.base) :],
            head.read,
            body,
            client,
            head.path not in CLIENT_APIS if self._is_aside is None else self._is_aside,
            self._is_inference,
        )
        if self._is_inference:
            facts = parse_body(body, client)
            request.wants_stream = facts.stream
            record.requested = facts.model or ""
            record.model = None if facts.model is None else loggable(facts.model)
        record.is_side = request.is_side
        record.decision = RoutingDecision()
        assert self._key is not None
        if self._key.caps is not NO_CAPS or self._forwarder.pool.capacity.counts_tokens:
            if not request.is_side:
                self._tokens = self._expected_tokens(self._key)
            if self._key.caps.is_limited and (record.is_unpriced or not request.is_side):
                self._permit = self._state.key_rates.admit(self._key, self._tokens)
        self._forward()

    def _expected_tokens(self, key: ClientKey) -> int:
        """Give the expected tokens of the request; 0 if no rate limit counts them."""
        if not (key.caps.tokens_per_minute or self._forwarder.pool.capacity.counts_tokens):
            return 0
        return max(self._state.budgets.estimates.estimate(self._request_size(key)).tokens, 1)

    def _request_size(self, key: ClientKey) -> RequestSize:
        """Give what an estimate of the request's cost is based on."""
        record, facts = self._record, self._body.facts
        most = None if facts is None else facts.max_tokens
        return RequestSize(key.id, record.model or "", record.session or "", self._body.size, most)

    def _forward(self) -> None:
        head, record, forwarder = self._head, self._record, self._forwarder
        assert record.decision is not None
        request, key = self._request, self._key
        assert request is not None
        assert key is not None
        plan = forwarder.resolve(self._body.facts, head.read, head.headers, key)
        record.decision.rule = plan.rule
        request.without_tag = plan.without_tag
        request.own = presented_own(head.read) if plan.is_own else None
        if (key.budgets or self._state.budgets.is_active) and not (request.is_side or plan.is_own):
            self._reserve(request, key)
        side = ""
        if request.is_side:
            side = self._side or head.path.decode("latin-1")
            first = plan.targets[0]
            if request.is_count and not forwarder.counts(first, self._client.name):
                self.count(first)
                return
        facts = self._body.facts
        conversation = "" if facts is None or self._client is MESSAGES else facts.cache_key
        if self._client is RESPONSES and not request.is_side and request.own is None:
            forwarder.note_conversation(request, head.read, head.headers, key, conversation)
        failover, record.decision.trace = forwarder.start(
            plan, head.read, head.headers, key=key, side=side, tokens=self._tokens, conversation=conversation
        )
        runner = self._runner = AttemptRunner(self, forwarder, request, failover, record)
        if self._is_paused:
            runner.pause()
        runner.advance()

    def _reserve(self, request: ProxyRequest, key: ClientKey) -> None:
        """Reserve the request's estimated cost in the key's budgets, once. Raises `GatewayError` if one is used up."""
        if self._reservation is not None:
            return
        record = self._record
        assert record.decision is not None
        found = self._state.budgets.reserve(key, self._request_size(key), record.at, record.request_id)
        if isinstance(found, BudgetRefusal):
            raise budget_error(found, key.name, record.at)
        if found is not None:
            self._reservation = record.decision.budgets = found
            request.is_budgeted = True

    def count(self, target: Target) -> None:
        facts = self._body.facts
        assert facts is not None
        self._record.provider = target.group.provider
        headers, content = count_answer(self._state.token_ratios.estimate(target, facts.size), self._client)
        self._start(_OK, *lines_of(headers))
        self._write(content)
        self._end()

    def reroute(self) -> None:
        if self._record.attempts or self._forwarder is self._state.forwarder:
            message = "the provider's address or its account changed in the middle of this request; send it again"
            raise GatewayError(503, "api_error", message, should_retry=True, retry_after=1, cause="config_changed")
        self._forwarder = self._state.forwarder
        if self._runner is not None:
            self._runner.close()
        self._forward()

    def _start(self, status: int, lines: list[bytes], length: int | None) -> None:
        record = self._record
        record.status = status
        record.first_byte = self._state.clock() - self._started
        lines.append(b"%b: %b\r\n" % (REQUEST_ID, record.request_id.encode("ascii")))
        self.writer.start(status, lines, length)

    def _write(self, data: bytes) -> None:
        self._record.bytes_out += len(data)
        self.writer.write(data)

    def _end(self) -> None:
        """End a complete answer."""
        if not self._is_over:
            self._finish()
            self.writer.end()

    def _cut(self) -> None:
        if not self._is_over:
            self._finish()
            self.writer.cut()

    def fail(self, fault: Exception) -> None:
        """Answer with an error; cut the answer if it has begun."""
        if self._is_over:
            return
        record = self._record
        error = gateway_error_for(fault, record)
        record.error = error.cause
        if record.decision is not None:
            record.decision.message = error.message
        if self.writer.is_started:
            self._cut()
            return
        content = error.body(record.request_id, self._client)
        if self.writer.is_awaited:
            # The client may or may not send its body now: only a new connection is unambiguous (RFC 9110, 10.1.1).
            self.writer.keep = False
        self._start(error.status, *lines_of(error.head(len(content))))
        self._write(content)
        self._end()

    def _finish(self) -> None:
        """Release what the request holds, and add its record."""
        self._is_over = True
        state, record = self._state, self._record
        record.duration = state.clock() - self._started
        if (body := self._filter) is not None:
            body.close()
            record.error = record.error or body.error
            if body.model is not None:
                record.served_model = body.model
                if record.model is None:
                    record.model = loggable(body.model)
        else:
            if (facts := self._body.facts) is not None and self._runner is not None and self._runner.is_answered:
                self._input_size = facts.size
            self._body.release()
        if (runner := self._runner) is not None:
            if self._input_size is not None and (record.usage.input is None or record.translated is not None):
                self._count_input(runner, self._input_size)
            runner.close()  # ends the lease, once; `record.usage` is final
            self._runner = None
        if self._reservation is not None:
            state.budgets.settle(self._reservation, record.usage)
        self._request = None
        if self._permit is not None:
            state.key_rates.settle(self._permit, record.rated_tokens)
        state.running.discard(self)
        if self._is_stream:
            state.streams -= 1
        state.add_record(record)


def no_room() -> GatewayError:
    return GatewayError(
        503,
        "api_error",
        "the gateway is at its limit of connections; close some, or try again in a moment",
        should_retry=True,
        retry_after=1,
        cause="too_many_connections",
    )


def _loop() -> GatewayError:
    return GatewayError(
        508,
        "api_error",
        "this request came back to the gateway that sent it, because the base_url of a provider leads here; "
        "give [[providers]] in config.toml the vendor's address, then see: tokenferry config check",
        cause="loop",
    )


def gateway_error_for(fault: Exception, record: RequestRecord) -> GatewayError:
    """Give the error to answer with, and log what it doesn't say."""
    if isinstance(fault, GatewayError):
        return fault
    if isinstance(fault, TokenferryError):
        logger.warning("%s %s", record.request_id, fault)
        return gateway_error_of(fault)
    logger.error("%s failed", record.request_id, exc_info=fault)
    message = "the gateway failed; its log gives the cause under this request's id"
    return GatewayError(500, "api_error", message, cause="internal_error")
