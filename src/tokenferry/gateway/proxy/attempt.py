"""One request's way to an upstream, and its answer's way back, over as many accounts as it takes."""

import asyncio
import logging
from collections.abc import Callable
from typing import Final, Protocol

from tokenferry.credentials import Credential
from tokenferry.errors import CredentialRefused, NeedsLogin, TokenferryError, TryLater
from tokenferry.gateway.http.errors import GatewayError, combined_error
from tokenferry.gateway.http.headers import ResponseHeaders
from tokenferry.gateway.proxy.body import ProxyRequest
from tokenferry.gateway.proxy.forwarder import Forwarder
from tokenferry.gateway.telemetry.record import RequestRecord
from tokenferry.pool import Forward, Journey, SendAttempt, WaitForCapacity
from tokenferry.routing import loggable_name
from tokenferry.streaming._first_content import GATE_SECONDS, FirstContentBuffer
from tokenferry.upstream import Exchange as Call
from tokenferry.upstream import ResponseHead, UpstreamClosed, UpstreamError

logger = logging.getLogger("tokenferry.gateway")

_BAD_REQUEST: Final = 400
_HELD_LIMIT: Final = 1024 * 1024


class ResponseSink(Protocol):
    """Who sends the errand. The first four are told of the answer that goes to the client, after which nothing is sent.

    What they raise comes back by `fail`.
    """

    def begin(self, head: ResponseHead, down: ResponseHeaders, /) -> None: ...
    def feed(self, chunk: bytes, /) -> None: ...
    def end(self) -> None: ...
    def cut(self, failure: UpstreamError, /) -> None: ...

    def start_anew(self) -> None:
        """Learn that the configuration is another one by now: the credential may be meant for another host."""

    def fail(self, fault: Exception, /) -> None:
        """Learn that there is no answer, or no more of it."""


class _HeldAnswer:
    """An answer that goes to nobody yet. `is_whole` tells whether it has ended; `failure`, how it was cut."""

    def __init__(self, head: ResponseHead, gate: FirstContentBuffer | None = None) -> None:
        self.head = head
        self.gate = gate
        self.chunks: list[bytes] = [] if gate is None else gate.held
        self.size = 0
        self.is_whole = False
        self.failure: UpstreamError | None = None


class AttemptRunner:
    """Does what a journey asks for, and tells it what came of it. A `Sink` of the upstreams', driven by call-backs.

    An error is held until it is known whether the journey goes on, and so is a stream until its first content. A task
    is needed only where an account's credential isn't at hand.
    """

    # As defaults of the class these cost nothing for the many errands that need none of them.
    _is_over = _is_passing = _is_paused = False
    _credential: Credential | None = None
    _step: SendAttempt | None = None
    _task: "asyncio.Task[None] | None" = None
    _timer: "asyncio.TimerHandle | None" = None
    _call: Call | None = None
    _held: _HeldAnswer | None = None
    """Of the present attempt."""
    _kept: _HeldAnswer | None = None
    """Of an earlier one: what the client gets if nobody does better."""
    _fault: Exception | None = None
    _faults: tuple[TokenferryError, ...] = ()

    def __init__(
        self,
        customer: ResponseSink,
        relay: Forwarder,
        request: ProxyRequest,
        journey: Journey,
        record: RequestRecord,
        *,
        is_gated: bool,
    ) -> None:
        self._customer = customer
        self._relay = relay
        self._request = request
        self._journey = journey
        self._record = record
        self._is_gated = is_gated
        if relay.is_capped:
            journey.wake = self._wake

    def go(self) -> None:
        """Do the journey's next step, and all that follow from it. Raises what the customer does."""
        step = self._journey.next()
        if isinstance(step, Forward):
            self._give()
            return
        if self._held is not None:
            self._kept, self._held = self._held, None
        if self._call is not None:
            self._call.abort()  # of the answer that is held no more is wanted
            self._call = None
            if self._kept is not None and not self._kept.is_whole and self._kept.failure is None:
                self._kept.failure = UpstreamClosed(self._record.provider or "", sent=True, answered=True)
        if isinstance(step, SendAttempt):
            self._step = step
            self._record.provider = step.hop.roster.provider
            if step.wait > 0:
                self._later(step.wait, self._attempt)
            else:
                self._attempt()
        elif isinstance(step, WaitForCapacity):
            self._later(step.seconds, self.go)
        else:
            raise GatewayError(
                step.status,
                step.kind,
                step.message,
                should_retry=step.should_retry,
                retry_after=step.retry_after,
                cause=step.cause,
            )

    def pause(self) -> None:
        self._is_paused = True
        if self._call is not None:
            self._call.pause()

    def resume(self) -> None:
        self._is_paused = False
        if self._call is not None:
            self._call.resume()

    def close(self) -> None:
        """End whatever is under way."""
        self._is_over = True
        self._held = self._kept = None
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None
        if self._task is not None:
            self._task.cancel()
            self._task = None
        if self._call is not None:
            self._call.abort()
            self._call = None
        self._journey.close()

    # What the upstream tells.

    def on_head(self, head: ResponseHead) -> None:
        try:
            self._record.upstream_status = head.status
            if head.status >= _BAD_REQUEST:
                self._held = _HeldAnswer(head)
                return
            down = self._relay.down(head, self._request)
            if self._is_gated and down.is_event_stream:
                self._held = _HeldAnswer(head, FirstContentBuffer())
                self._later(GATE_SECONDS, self._open)
            else:
                self._serve(head, down)
        except Exception as fault:  # noqa: BLE001  # told to the client, and those that are no answer to the log
            self._customer.fail(fault)

    def on_body(self, chunk: bytes) -> None:
        try:
            if self._is_passing:
                self._customer.feed(chunk)
            else:
                self._hold(chunk)
        except Exception as fault:  # noqa: BLE001  # see `on_head`
            self._customer.fail(fault)

    def on_end(self) -> None:
        self._call = None
        try:
            if self._is_passing:
                self._customer.end()
                return
            held = self._held
            assert held is not None
            held.is_whole = True
            if held.gate is not None:
                self._journey.lost("its stream ended before its first content")
                self.go()
            else:
                self._judge(held)
        except Exception as fault:  # noqa: BLE001  # see `on_head`
            self._customer.fail(fault)

    def on_failure(self, failure: UpstreamError) -> None:
        self._call = None
        try:
            if self._is_passing:
                self._customer.cut(failure)
            elif isinstance(failure, UpstreamClosed):
                self._customer.fail(failure)
            else:
                self._miss(failure)
        except Exception as fault:  # noqa: BLE001  # see `on_head`
            self._customer.fail(fault)

    # One step after the other.

    def _attempt(self) -> None:
        """Send it, once there is a credential."""
        step = self._step
        assert step is not None
        source, own = self._relay.source, self._request.own
        if own is not None:
            self._send(step, own.credential)
        elif step.renew:
            self._resolve(step)
        elif (credential := source.fresh(step.member.name)) is not None:
            self._send(step, credential)
        else:
            self._resolve(step)

    def _resolve(self, step: SendAttempt) -> None:
        refused = self._credential.secret if step.renew and self._credential is not None else None

        async def resolve() -> None:
            found: Credential | TokenferryError
            try:
                found = await self._relay.source.aresolve(step.member.name, refused=refused)
            except TokenferryError as fault:
                found = fault
            except Exception as fault:  # noqa: BLE001  # see `on_head`
                self._customer.fail(fault)
                return
            if not self._is_over:
                self._task = None
                self._guarded(lambda: self._resolved(step, found))

        self._task = asyncio.get_running_loop().create_task(resolve())

    def _resolved(self, step: SendAttempt, found: Credential | TokenferryError) -> None:
        name = step.member.name
        if isinstance(found, TokenferryError):
            if step.renew and isinstance(found, NeedsLogin | CredentialRefused):
                logger.warning("account %s: its token was refused by the provider: %s", name, found)
                self._journey.not_renewed(str(found))
            else:
                logger.warning("account %s is passed over: %s", name, found)
                if step.renew:
                    self._put_off(name)
                self._faults = (*self._faults, found)
                self._journey.unavailable(str(found), found.retry_after if isinstance(found, TryLater) else None)
        elif step.renew and self._credential is not None and found.secret == self._credential.secret:
            logger.warning("account %s: its token was refused by the provider, and there is no other", name)
            self._journey.not_renewed("its token was refused, and there is no other")
        else:
            self._send(step, found)
            return
        self.go()

    def _put_off(self, name: str) -> None:
        """A refused token couldn't be renewed now. It is owed a renewal, and what refused it is no answer."""
        self._kept = None
        if self._credential is not None and not self._journey.want.side:
            self._relay.source.invalidate(name, self._credential.secret)

    def _send(self, step: SendAttempt, credential: Credential) -> None:
        record, name, provider = self._record, step.member.name, step.hop.roster.provider
        if not self._relay.is_current(provider, name):
            self._customer.start_anew()
            return
        self._credential = credential
        record.account = name
        record.attempts += 1
        record.upstream_status = None
        self._journey.fingerprint = credential.secret.fingerprint
        record.upstream_model = None if step.hop.model == record.requested else loggable_name(step.hop.model)
        self._call = self._relay.send(self._request, step.hop, name, credential, self)
        if self._is_paused:
            self._call.pause()

    def _hold(self, chunk: bytes) -> None:
        held = self._held
        assert held is not None
        if held.gate is None:
            held.chunks.append(chunk)
            held.size += len(chunk)
            if held.size > _HELD_LIMIT:
                self._judge(held)
            return
        match held.gate.feed(chunk):
            case "open":
                self._open()
            case "error":
                self._cancel_timer()
                self._judge(held)

    def _judge(self, held: _HeldAnswer) -> None:
        """Let the journey decide on what is held."""
        self._fault = None
        self._journey.answered(held.head.status, held.head.headers, b"".join(held.chunks))
        self.go()

    def _miss(self, failure: UpstreamError) -> None:
        """There is no answer, or not all of it."""
        held, reason = self._held, str(failure)
        self._cancel_timer()
        logger.warning("%s %s", self._record.request_id, reason)
        if not failure.sent:
            self._journey.unsent(reason)
            self._fault = failure if self._kept is None else None
        else:
            self._journey.lost(reason)
            if held is not None and held.gate is not None:
                held.failure = failure
            else:
                self._held = self._kept = None
                self._fault = failure
        self.go()

    def _open(self) -> None:
        """The gate: there is content, or enough was waited for it."""
        self._cancel_timer()
        held = self._held
        assert held is not None
        self._guarded(lambda: self._serve(held.head, self._relay.down(held.head, self._request), held.chunks))

    def _serve(self, head: ResponseHead, down: ResponseHeaders, chunks: list[bytes] | None = None) -> None:
        """It is this answer that the client gets."""
        self._journey.served(head.headers, head.status)
        self._pass(head, down, chunks)

    def _pass(self, head: ResponseHead, down: ResponseHeaders, chunks: list[bytes] | None) -> None:
        self._held = self._kept = None
        self._is_passing = True
        self._customer.begin(head, down)
        if chunks:
            self._customer.feed(b"".join(chunks))

    def _give(self) -> None:
        """The client gets what was told last: an answer as it came, or why there is none."""
        held = self._held or self._kept
        if held is None:
            raise self._fault if self._fault is not None else combined_error([*self._faults])
        self._pass(held.head, self._relay.down(held.head, self._request), held.chunks)
        if held.failure is not None:
            self._customer.cut(held.failure)
        elif held.is_whole:
            self._customer.end()

    def _wake(self) -> None:
        """There is a place for a journey that waits for one."""
        self._cancel_timer()
        asyncio.get_running_loop().call_soon(self._guarded, self.go)

    def _later(self, seconds: float, call: Callable[[], None]) -> None:
        self._timer = asyncio.get_running_loop().call_later(seconds, self._due, call)

    def _due(self, call: Callable[[], None]) -> None:
        self._timer = None
        self._guarded(call)

    def _cancel_timer(self) -> None:
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None

    def _guarded(self, call: Callable[[], None]) -> None:
        if not self._is_over:
            try:
                call()
            except Exception as fault:  # noqa: BLE001  # see `on_head`
                self._customer.fail(fault)
