"""Makes the attempts of one request: sends them, holds undecided responses back, and forwards the answer."""

import asyncio
import logging
from collections.abc import Callable
from functools import partial
from typing import TYPE_CHECKING, Final, Protocol

import msgspec

from tokenferry.credentials import Credential
from tokenferry.errors import CredentialRefused, NeedsLogin, TokenferryError, TryLater, Unfit
from tokenferry.gateway.http.errors import GatewayError, combined_error
from tokenferry.gateway.http.headers import ResponseHeaders
from tokenferry.gateway.proxy.body import ProxyRequest
from tokenferry.gateway.proxy.forwarder import Forwarder
from tokenferry.gateway.proxy.translation import Translation
from tokenferry.gateway.telemetry.record import RequestRecord
from tokenferry.limits import may_be_error
from tokenferry.pool import (
    CapacityGranted,
    ConnectFailed,
    CredentialUnavailable,
    ErrorResponse,
    Failover,
    Forward,
    Lease,
    NotRenewed,
    Outcome,
    Reject,
    SendAttempt,
    Served,
    Target,
    TargetUnfit,
    UpstreamLost,
    WaitOver,
)
from tokenferry.routing import loggable, loggable_name, loggable_text
from tokenferry.streaming import GATE_SECONDS, FirstContentBuffer
from tokenferry.upstream import Call, ResponseHead, UpstreamClosed, UpstreamError
from tokenferry.wire import refuses_reasoning

if TYPE_CHECKING:
    from tokenferry.pool import WaitForCapacity

logger = logging.getLogger("tokenferry.gateway")

_BAD_REQUEST: Final = 400
_NO_SUCH_ROUTE: Final = frozenset((404, 405, 501))
_HELD_LIMIT: Final = 1024 * 1024
_NO_THREADS: Final = {"error_code": "thread_unsupported_request", "unsupported": ["thread"]}
"""On these details Anthropic's SDK sends the whole conversation."""


class ResponseSink(Protocol):
    """Receives the response that is forwarded to the client; once `begin` is called no further attempt is made.

    The runner catches what these methods raise, and passes it to `fail`.
    """

    def begin(self, head: ResponseHead, headers: ResponseHeaders, /) -> None: ...
    def feed(self, chunk: bytes, /) -> None: ...
    def end(self) -> None: ...
    def cut(self, failure: UpstreamError, /) -> None: ...

    def count(self, target: Target, /) -> None:
        """Answer with an estimate of the request's tokens, since the upstream can't count them; ends the runner."""

    def reroute(self) -> None:
        """Resolve the route again: after a change of the configuration the credential may belong to another host."""

    def fail(self, fault: Exception, /) -> None:
        """Answer with an error, or cut the answer that has begun."""


class _HeldResponse(msgspec.Struct, eq=False):
    """A response of which nothing was sent to the client. `is_whole`: it has ended; `failure`: it was cut."""

    head: ResponseHead
    headers: ResponseHeaders
    chunks: list[bytes] = []  # msgspec copies it
    buffer: FirstContentBuffer | None = None
    """Of a stream; `chunks` are those that it holds."""
    size: int = 0
    is_whole: bool = False
    failure: UpstreamError | None = None
    translation: Translation | None = None
    """Of an error in another wire format."""

    def conceal(self, secret: bytes) -> None:
        """Replace a secret that the upstream repeats by as many asterisks."""
        body = b"".join(self.chunks)
        if secret in body:
            self.chunks[:] = [body.replace(secret, b"*" * len(secret))]

    @property
    def is_unknown_route(self) -> bool:
        """Whether the upstream lacks the route. An answer that mentions a model is about an unknown model instead."""
        return self.head.status in _NO_SUCH_ROUTE and b"model" not in b"".join(self.chunks)


class AttemptRunner:
    """Drives one request's failover. A `Sink` of its upstream calls.

    Errors are held until failover decides on them, a stream until its first content, a document until its beginning.
    A task runs only while an account's credential is resolved.
    """

    # Defaults of the class: most requests never set these, so they cost nothing.
    _is_over = _is_forwarding = _is_paused = False
    _is_refused = False
    """Whether an upstream refused reasoning of another account, so that none is sent again."""
    _credential: Credential | None = None
    _fingerprint = ""
    """Identifies the last credential."""
    _step: SendAttempt | None = None
    _task: "asyncio.Task[None] | None" = None
    _timer: "asyncio.TimerHandle | None" = None
    _call: Call | None = None
    _held: _HeldResponse | None = None
    _lease: Lease | None = None
    _translation: Translation | None = None
    """Of the current attempt; None if the upstream speaks the client's format."""
    _waits_for: "WaitForCapacity | None" = None

    def __init__(
        self,
        sink: ResponseSink,
        forwarder: Forwarder,
        request: ProxyRequest,
        failover: Failover,
        record: RequestRecord,
    ) -> None:
        self._sink = sink
        self._forwarder = forwarder
        self._request = request
        self._failover = failover
        self._record = record
        self._is_side = request.is_side

    @property
    def target(self) -> Target | None:
        """The target of the current or last attempt."""
        return None if self._step is None else self._step.target

    @property
    def account(self) -> str:
        """The account of the current or last attempt; empty before the first."""
        step = self._step
        return "" if step is None else step.account.name

    @property
    def stage(self) -> str:
        """What the request is doing, for a list of running requests."""
        if self._waits_for is not None:
            return "waits for an account"
        if self._task is not None:
            return "waits for a credential"
        return "waits to try again" if self._call is None else "waits for the provider"

    @property
    def is_answered(self) -> bool:
        """Whether a held answer is good: it has begun, but nothing of it was sent to the client."""
        return self._held is not None and self._held.head.status < _BAD_REQUEST

    def pause(self) -> None:
        self._is_paused = True
        if self._call is not None:
            self._call.pause()

    def resume(self) -> None:
        self._is_paused = False
        if self._call is not None:
            self._call.resume()

    def close(self) -> None:
        """End the attempt in progress."""
        self._is_over = True
        self._held = None
        if self._timer is not None:
            self._cancel_timer()
        if self._task is not None:
            self._task.cancel()
            self._task = None
        if self._call is not None:
            self._drop_call()
        if self._translation is not None:
            self._translation.close()
        self._failover.close()
        if self._lease is not None:
            self._lease.end(self._record.rated_tokens if self._lease.reserved else 0)
            self._lease = None

    # Events of the upstream call.

    def on_head(self, head: ResponseHead) -> None:
        try:
            self._record.upstream_status = head.status
            headers = self._forwarder.response_headers(head, self._request)
            if head.status >= _BAD_REQUEST:
                self._held = _HeldResponse(head, headers)
                self._held.translation = self._translation
                self._later(GATE_SECONDS, partial(self._classify, self._held))
            elif self._is_side or not (headers.is_event_stream or headers.is_json):
                self.advance(Served(head.status, head.headers, self._fingerprint))
                self._forward(head, headers)
            elif headers.is_json:
                self._held = _HeldResponse(head, headers)
            else:
                buffer = FirstContentBuffer()
                self._held = _HeldResponse(head, headers, buffer.held, buffer)
                self._later(GATE_SECONDS, self._serve_held)
        except Exception as fault:  # noqa: BLE001  # answered or logged
            self._sink.fail(fault)

    def on_body(self, chunk: bytes) -> None:
        try:
            if self._is_forwarding:
                self._sink.feed(chunk)
            else:
                self._hold(chunk)
        except Exception as fault:  # noqa: BLE001  # see `on_head`
            self._sink.fail(fault)

    def on_end(self) -> None:
        self._call = None
        try:
            if self._is_forwarding:
                self._sink.end()
                return
            held = self._held
            assert held is not None
            held.is_whole = True
            self._cancel_timer()
            if held.buffer is not None:
                self.advance(UpstreamLost("its stream ended before its first content", self._fingerprint, held))
            elif self._is_unreadable(held):
                logger.info("%s goes without the reasoning that its upstream refused", self._record.request_id)
                self._held = None
                self._request.foreign = frozenset(self._request.thoughts)
                self._request.without_thinking = True
                self._is_refused = True
                self._attempt()
            else:
                self._classify(held)
        except Exception as fault:  # noqa: BLE001  # see `on_head`
            self._sink.fail(fault)

    def on_failure(self, failure: UpstreamError) -> None:
        self._call = None
        try:
            if self._is_forwarding:
                self._sink.cut(failure)
            elif isinstance(failure, UpstreamClosed):
                self._sink.fail(failure)
            else:
                self._transport_error(failure)
        except Exception as fault:  # noqa: BLE001  # see `on_head`
            self._sink.fail(fault)

    # Steps.

    def advance(self, outcome: Outcome | None = None) -> None:
        """Give failover the outcome of the last step, None before the first, and take the next step.

        Raises what the sink raises, and `GatewayError` for a rejection.
        """
        try:
            step = self._failover.send(outcome)  # type: ignore[arg-type]  # None starts a generator
        except StopIteration as end:
            result: Forward | Reject = end.value
            if isinstance(result, Forward):
                self._lease = result.lease
                if isinstance(result.outcome, Served):
                    return  # the caller forwards it
            self._finish(result)
            return
        if self._held is not None:
            self._release_held()
        if isinstance(step, SendAttempt):
            self._step = step
            self._record.provider = step.target.group.provider
            if step.wait > 0:
                self._later(step.wait, self._attempt)
            else:
                self._attempt()
        else:
            self._wait_for_capacity(step)

    def _finish(self, result: Forward | Reject) -> None:
        """Forward the response that failover chose, or raise the error that it ended with."""
        if isinstance(result, Reject):
            if result.faults:
                raise combined_error([*result.faults])
            raise GatewayError(
                result.status,
                result.kind,
                result.message,
                should_retry=result.should_retry,
                retry_after=result.retry_after,
                cause=result.cause,
                details=_NO_THREADS if result.cause == "unfit" and self._request.has_thread else None,
            )
        assert not isinstance(result.outcome, Served)
        answer = result.outcome.answer
        if not isinstance(answer, _HeldResponse):
            raise answer
        if self._request.is_count and self._step is not None and (answer.is_unknown_route or answer.translation):
            self._sink.count(self._step.target)
            return
        if answer is not self._held:
            self._release_held()
        self._forward_held(answer)

    def _attempt(self) -> None:
        """Send the request with the account's credential, which is resolved first if it isn't in memory."""
        step = self._step
        assert step is not None
        source, own, name = self._forwarder.source, self._request.own, step.account.name
        if own is not None:
            self._send(step, own.credential)
        elif step.renew:
            self._resolve(step)
        elif (credential := source.fresh(name)) is not None:
            self._send(step, credential)
        else:
            self._resolve(step)

    def _resolve(self, step: SendAttempt) -> None:
        refused = self._credential.secret if step.renew and self._credential is not None else None

        async def resolve() -> None:
            found: Credential | TokenferryError
            try:
                found = await self._forwarder.source.aresolve(step.account.name, refused=refused)
            except TokenferryError as fault:
                found = fault
            except Exception as fault:  # noqa: BLE001  # see `on_head`
                self._sink.fail(fault)
                return
            if not self._is_over:
                self._task = None
                self._guarded(self._resolved, step, found)

        self._task = asyncio.get_running_loop().create_task(resolve())

    def _resolved(self, step: SendAttempt, found: Credential | TokenferryError) -> None:
        name = step.account.name
        if isinstance(found, TokenferryError):
            if step.renew and isinstance(found, NeedsLogin | CredentialRefused):
                logger.warning("account %s: its token was refused by the provider: %s", name, found)
                self.advance(NotRenewed(str(found), is_dead=True))
            else:
                logger.warning("account %s is skipped: %s", name, found)
                if step.renew:
                    self._postpone_renewal(name)
                retry_after = found.retry_after if isinstance(found, TryLater) else None
                self.advance(CredentialUnavailable(found.for_clients or str(found), retry_after, found))
        elif step.renew and self._credential is not None and found.secret == self._credential.secret:
            logger.warning("account %s: its token was refused by the provider, and there is no other", name)
            self.advance(NotRenewed("its token was refused, and there is no other"))
        else:
            self._send(step, found)

    def _postpone_renewal(self, name: str) -> None:
        """Leave the renewal of a refused token, which failed, to the next request that would use it."""
        if self._credential is not None and not self._is_side:
            self._forwarder.source.invalidate(name, self._credential.secret)

    def _send(self, step: SendAttempt, credential: Credential) -> None:
        record, name, target = self._record, step.account.name, step.target
        if not self._forwarder.is_current(target.group.provider, name):
            self._sink.reroute()
            return
        record.translated = self._translation = None
        if record.is_unpriced:
            self._forwarder.check_unpriced(target, credential)
        is_foreign = target.group.wire_format != self._request.client.name
        if is_foreign and self._request.is_count and not self._forwarder.counts(target, self._request.client.name):
            self._sink.count(target)
            return
        try:
            if is_foreign:
                self._translation = self._translate(target, name)
            elif target.group.provider in self._forwarder.hosted:
                self._forwarder.check_fit(self._request, target)
        except Unfit as fault:
            self.advance(TargetUnfit(loggable_text(str(fault))))
            return
        self._credential = credential
        self._fingerprint = credential.secret.fingerprint
        record.account = name
        record.attempts += 1
        record.upstream_status = None
        record.upstream_model = None if target.model == record.requested else loggable_name(target.model)
        if self._translation is None:
            if self._request.thoughts and not self._is_refused:
                self._request.foreign = self._forwarder.foreign_thoughts(self._request, name)
            self._call = self._forwarder.send(self._request, target, name, credential, self)
        else:
            self._call = self._forwarder.send_translated(self._translation, self._request, target, name, credential)
        if self._is_paused:
            self._call.pause()

    def _translate(self, target: Target, account: str) -> Translation:
        """Translate the request into the target's format. Raises `Unfit`."""
        record = self._record
        found = self._forwarder.translate(
            self._request, target, account, self, request_id=record.request_id, fail=self._sink.fail
        )
        record.translated = f"{self._request.client.name}-to-{target.group.wire_format}"
        record.left_out = tuple(name for name in found.sent.left_out if loggable(name) is not None)
        return found

    def _hold(self, chunk: bytes) -> None:
        held = self._held
        assert held is not None
        if held.buffer is None:
            held.chunks.append(chunk)
            if not held.size and held.head.status < _BAD_REQUEST:
                if not may_be_error(chunk):
                    self.advance(Served(held.head.status, held.head.headers, self._fingerprint))
                    self._forward(held.head, held.headers, held.chunks)
                    return
                self._later(GATE_SECONDS, partial(self._classify, held))
            held.size += len(chunk)
            if held.size > _HELD_LIMIT:
                self._classify(held)
            return
        match held.buffer.feed(chunk):
            case "open":
                self._serve_held()
            case "error":
                self._classify(held)

    def _classify(self, held: _HeldResponse) -> None:
        """Let failover decide on an error, or on a stream that begins with one, by the upstream's own words.

        Of an error's body the part that has arrived counts.
        """
        self._cancel_timer()
        if self._credential is not None and self._request.own is None:
            held.conceal(self._credential.secret.reveal().encode())
        head, body = held.head, b"".join(held.chunks)
        if held.buffer is not None and self._translation is not None:
            body = self._translation.beginning
        self.advance(ErrorResponse(head.status, head.headers, body, self._fingerprint, held, held.is_whole))

    def _is_unreadable(self, held: _HeldResponse) -> bool:
        """Whether the upstream refuses reasoning that it didn't sign or encrypt itself, and hasn't done so before."""
        if held.head.status != _BAD_REQUEST or self._translation is not None or self._is_refused:
            return False
        if self._request.own is not None:
            return False  # its client's own affair
        return refuses_reasoning(self._request.client.name, b"".join(held.chunks))

    def _transport_error(self, failure: UpstreamError) -> None:
        """There is no response, or not all of it."""
        held, reason = self._held, str(failure)
        self._cancel_timer()
        if held is not None and held.head.status >= _BAD_REQUEST:
            held.failure = failure
            self._classify(held)  # its status is known: nothing was served
            return
        logger.warning("%s %s", self._record.request_id, reason)
        if not failure.sent:
            self.advance(ConnectFailed(reason, self._fingerprint))
        elif held is not None and held.buffer is not None:
            held.failure = failure
            self.advance(UpstreamLost(reason, self._fingerprint, held))
        else:
            self.advance(UpstreamLost(reason, self._fingerprint, failure))

    def _serve_held(self) -> None:
        """The stream has content, or enough was waited for it."""
        self._cancel_timer()
        held = self._held
        assert held is not None
        head = held.head
        self.advance(Served(head.status, head.headers, self._fingerprint))
        self._forward(head, held.headers, held.chunks)

    def _forward(self, head: ResponseHead, headers: ResponseHeaders, chunks: list[bytes] | None = None) -> None:
        self._held = None
        self._is_forwarding = True
        if self._translation is not None:
            self._record.usage = self._translation.usage
        elif self._request.conversation and head.status < _BAD_REQUEST:
            self._forwarder.own_reasoning(self._request, self._record.account or "")
        self._sink.begin(head, headers)
        if chunks:
            self._sink.feed(b"".join(chunks))

    def _forward_held(self, held: _HeldResponse) -> None:
        """The client gets an error as it came, but for its format, or what came of a stream that was cut."""
        if (reworded := self._reworded(held)) is not None:
            head, content = reworded
            self._forward(head, self._forwarder.response_headers(head, self._request), [content])
            self._sink.end()
            return
        self._forward(held.head, held.headers, held.chunks)
        if held.failure is not None:
            self._sink.cut(held.failure)
        elif held.is_whole:
            self._sink.end()

    def _reworded(self, held: _HeldResponse) -> tuple[ResponseHead, bytes] | None:
        """An error in the words of the client's API, where its upstream, or the cloud before that, has others."""
        if held.translation is not None:
            return held.translation.error(held.head, b"".join(held.chunks))
        if not held.is_whole or held.buffer is not None or self._request.own is not None or self._step is None:
            return None
        return self._forwarder.reworded(self._step.target, held.head, b"".join(held.chunks), self._record.request_id)

    def _wait_for_capacity(self, step: "WaitForCapacity") -> None:
        """Go on when the ticket has a slot, or the wait is over."""
        loop = asyncio.get_running_loop()
        # A ticket wakes while another request is being ended, so this one goes on later.
        step.ticket.wake = partial(loop.call_soon, self._end_wait, step, CapacityGranted())
        self._waits_for = step
        self._later(step.seconds, lambda: self._end_wait(step, WaitOver()))

    def _end_wait(self, step: "WaitForCapacity", outcome: Outcome) -> None:
        if self._waits_for is step:
            self._waits_for = None
            self._cancel_timer()
            self._guarded(self.advance, outcome)

    def _release_held(self) -> None:
        """Let go of the present attempt's response: what has not come of it is not waited for."""
        held, self._held = self._held, None
        if held is not None and not held.is_whole and held.failure is None:
            held.failure = UpstreamClosed(self._record.provider or "", sent=True, answered=True)
        self._drop_call()

    def _drop_call(self) -> None:
        if self._call is not None:
            self._call.abort()
            self._call = None

    def _later(self, seconds: float, call: Callable[[], None]) -> None:
        self._timer = asyncio.get_running_loop().call_later(seconds, self._due, call)

    def _due(self, call: Callable[[], None]) -> None:
        self._timer = None
        self._guarded(call)

    def _cancel_timer(self) -> None:
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None

    def _guarded(self, call: Callable[..., None], *given: object) -> None:
        if not self._is_over:
            try:
                call(*given)
            except Exception as fault:  # noqa: BLE001  # see `on_head`
                self._sink.fail(fault)
