"""Failover: chooses the next account by the outcome of the last attempt. A generator without I/O."""

from collections.abc import Generator, Mapping, Sequence
from collections.abc import Set as AbstractSet
from typing import TYPE_CHECKING, Final, TypeAlias

import msgspec

from tokenferry.limits import Action, Classification, classify, read_limits
from tokenferry.pool._account import Criteria, PoolAccount, Target
from tokenferry.pool._cooldowns import is_about_an_account, starts_cooldown
from tokenferry.pool._exhausted import at_capacity, attempts_exhausted, conclusion
from tokenferry.pool._lease import Lease, Ticket
from tokenferry.pool._steps import (
    ConnectFailed,
    CredentialUnavailable,
    ErrorResponse,
    Forward,
    Move,
    NotRenewed,
    Outcome,
    Reject,
    SendAttempt,
    Served,
    Step,
    TargetUnfit,
    UpstreamLost,
    WaitForCapacity,
    text_headers,
)
from tokenferry.pool._trace import Trace, TraceEvent, Wait
from tokenferry.settings import PoolSettings
from tokenferry.state import Cooldown
from tokenferry.units import span

if TYPE_CHECKING:
    from tokenferry.pool._pool import Pool

Failover: TypeAlias = Generator[Step, Outcome, Forward | Reject]

_FIRST_WAIT: Final = 0.5
_NO_WAIT: Final = Wait()
_BACK_OFF: Final = "a back-off before the next attempt"
_LONGEST_WAIT: Final = 10.0
_MOST_JITTER: Final = 1.25
"""The longest wait, as a multiple of what an upstream asks for, so that requests don't return at once."""
_LOOK: Final = 1.0
_MOST_LAST_RESORTS: Final = 3
_SAME_ACCOUNT: Final = frozenset({"again", "renew"})
_NO_ACCOUNTS: Final[AbstractSet[str]] = frozenset()
_MOVES: Final[Mapping[Action, Move]] = {
    "return": "forward",
    "refresh": "account",
    "fail-over": "account",
    "hop": "sibling",
    "retry": "target",
    "retry-then-hop": "sibling",
    "next-provider": "target",
}
"""The move after an error that is not retried on the same account."""


class _Request(msgspec.Struct, eq=False):
    """One request, and the error that the client gets if no attempt succeeds."""

    pool: "Pool"
    criteria: Criteria
    trace: Trace
    settings: PoolSettings
    """The settings at its beginning."""
    last: Forward | None = None

    def left(self) -> float:
        """Give the seconds until the request times out."""
        return self.settings.total_timeout - (self.pool.monotonic() - self.trace.began)

    def cool_down(
        self, lease: Lease, error: Classification, fingerprint: str, *, is_certain: bool = False
    ) -> Cooldown | None:
        targets, selection = self.trace.targets, lease.selection
        return self.pool.cool_down(
            targets, lease.target, self.criteria, selection, error, fingerprint=fingerprint, is_certain=is_certain
        )

    def note(self, event: TraceEvent) -> None:
        self.trace.note(self.pool.monotonic(), event)

    def forward_last(self) -> Forward:
        """Forward the last error to the client."""
        assert self.last is not None
        outcome, lease = self.last.outcome, self.last.lease
        if isinstance(outcome, ErrorResponse) and not outcome.is_whole:
            lease.resume()
        return self.last

    def reject(self, rejection: Reject) -> Reject:
        self.note(TraceEvent("refused", status=rejection.status, reason=rejection.message))
        return rejection


def failover(pool: "Pool", targets: Sequence[Target], criteria: Criteria, trace: Trace) -> Failover:
    """Yield one step after another, and return what the client gets. The driver sends the outcome of each step.

    The driver ends the lease of a `Forward`; a generator that is closed earlier ends its own. The trace outlives the
    generator, for the decision log.
    """
    request = _Request(pool, criteria, trace, pool.settings)
    trace.targets = targets = targets if len(targets) == 1 else pool.selector.order(targets)
    for target in targets:
        is_first = criteria.pinned is None and not trace.events
        selection = pool.selector.select(target, criteria, trace.unavailable.keys(), is_first=is_first)
        if selection is not None:
            end = yield from _try_target(request, Lease(pool, target, selection, criteria.tokens))
            if end is not None:
                return end
    probes = 0
    while (lease := (yield from _last_resort(request, may_probe=probes < _MOST_LAST_RESORTS))) is not None:
        if isinstance(lease, Reject):
            return request.reject(lease)
        probes += lease.is_probing
        end = yield from _try_target(request, lease, trace.tried)
        if end is not None:
            return end
    end = conclusion(pool, criteria, trace, request.last)
    return request.reject(end) if isinstance(end, Reject) else request.forward_last()


def _try_target(
    request: _Request, lease: Lease, tried: AbstractSet[str] = _NO_ACCOUNTS
) -> Generator[Step, Outcome, Forward | Reject | None]:
    """Try the accounts of one target, the lease's first. Return the end, if there is one."""
    pool, criteria, trace, target = request.pool, request.criteria, request.trace, lease.target
    has_hopped = False
    while True:
        tried |= {lease.selection.account.name}
        move, end = yield from _attempt(request, lease, is_sibling=has_hopped)
        if end is not None or move == "target":
            return end
        selection = pool.selector.select(target, criteria, tried | trace.unavailable.keys())
        if move == "sibling":
            has_hopped = True
            if selection is None and request.last is not None and target is trace.targets[-1]:
                return request.forward_last()
        if selection is None:
            return None
        lease = Lease(pool, target, selection, criteria.tokens)


def _attempt(
    request: _Request, lease: Lease, *, is_sibling: bool
) -> Generator[Step, Outcome, tuple[Move, Forward | Reject | None]]:
    """Try one account, with retries. Return the next move and the end, if there is one."""
    pool, trace, settings = request.pool, request.trace, request.settings
    target, selection = lease.target, lease.selection
    move: Move = "account"
    wait, repeats, is_forwarded = _NO_WAIT, 0, False
    try:
        while True:
            now = pool.monotonic()
            if trace.attempts >= settings.max_attempts or settings.total_timeout - (now - trace.began) < wait.seconds:
                return move, request.reject(attempts_exhausted(trace.attempts, now - trace.began))
            trace.attempted(now, selection, target.model, wait)
            outcome = yield SendAttempt(
                target, selection.account, wait.seconds, move == "renew", selection.probed is not None
            )
            if isinstance(outcome, Served):
                _served(request, lease, outcome)
                is_forwarded = True
                return "forward", Forward(outcome, lease)
            move, wait = _next_move(request, lease, outcome, is_sibling=is_sibling, repeats=repeats)
            if isinstance(outcome, ErrorResponse):
                request.last = Forward(outcome, lease)
            elif trace.last_error is None:
                request.last = None
            if move == "forward":
                assert isinstance(outcome, ErrorResponse | UpstreamLost)
                is_forwarded = True  # the driver ends the lease
                return move, Forward(outcome, lease)
            if move not in _SAME_ACCOUNT:
                return move, None
            repeats += move == "again"
            if (delay := lease.reuse()) > wait.seconds:
                wait = Wait(delay, "its rate allows no earlier request")
    finally:
        if not is_forwarded:
            lease.end()


def _served(request: _Request, lease: Lease, outcome: Served) -> None:
    pool, criteria, trace = request.pool, request.criteria, request.trace
    at = pool.monotonic()
    trace.events.append((at, TraceEvent("served", lease.selection.account.name, outcome.fingerprint, outcome.status)))
    pool.served(lease.target, criteria, lease.selection, outcome.headers, at)
    if lease.is_probing:
        lease.end_probe(has_failed=False)


def _next_move(
    request: _Request, lease: Lease, outcome: Outcome, *, is_sibling: bool, repeats: int
) -> tuple[Move, Wait]:
    """Record an attempt that did not serve. Give the next move and the wait before it."""
    pool, trace = request.pool, request.trace
    account = lease.selection.account
    if isinstance(outcome, ErrorResponse):
        return _after_error(request, lease, outcome, is_sibling=is_sibling, repeats=repeats)
    move: Move = "account"
    wait, fingerprint, error, cooldown = _NO_WAIT, "", None, None
    if isinstance(outcome, NotRenewed):
        refused = trace.last_error
        assert refused is not None
        error, fingerprint = refused.classification, refused.fingerprint
        assert error is not None
        cooldown = request.cool_down(lease, error, fingerprint, is_certain=outcome.is_dead)
        lease.end_probe(has_failed=True)
        trace.attempts -= 1  # nothing was sent
        kind, fingerprint = "not renewed", ""
    elif isinstance(outcome, CredentialUnavailable):
        kind = "unavailable"
        pool.selector.back_off(account, outcome.reason, outcome.retry_after)
        trace.had_no_credential(account.name, outcome)
    elif isinstance(outcome, ConnectFailed):
        kind, fingerprint, provider = "unsent", outcome.fingerprint, lease.target.group.provider
        if provider in trace.unreachable or lease.target is not trace.targets[-1]:
            pool.selector.unreachable(provider)
            move = "target"
        else:
            move, wait = "again", Wait(_FIRST_WAIT / 2 * pool.rng.uniform(1.0, 2.0), _BACK_OFF)
        trace.unreachable = {**trace.unreachable, provider: outcome.reason}
    elif isinstance(outcome, TargetUnfit):
        kind, move = "unfit", "target"
        trace.attempts -= 1  # nothing was sent
        trace.unfit = {**trace.unfit, lease.target.group.provider: outcome.reason}
    else:
        assert isinstance(outcome, UpstreamLost)
        kind, fingerprint, move = "lost", outcome.fingerprint, "forward"
    if not isinstance(outcome, UpstreamLost):
        lease.not_sent()
    lease.end_probe(has_failed=None)
    request.note(TraceEvent(kind, account.name, fingerprint, None, error, cooldown, move, outcome.reason))
    return move, wait


def _after_error(
    request: _Request, lease: Lease, outcome: ErrorResponse, *, is_sibling: bool, repeats: int
) -> tuple[Move, Wait]:
    pool, criteria, trace = request.pool, request.criteria, request.trace
    target, account = lease.target, lease.selection.account
    fields, now, wire_format = text_headers(outcome.headers), pool.now(), target.group.wire_format
    rules = pool.limit_rules.get(target.group.provider, ())
    error = classify(outcome.status, fields, outcome.body, now=now, provider_format=wire_format, rules=rules)
    limits = read_limits(fields, now=now, provider_format=wire_format)
    pool.note_limits(account, limits, is_side=bool(criteria.side))
    wait, cooldown = _NO_WAIT, None
    move = _MOVES[error.action]
    if error.action == "refresh" and _may_renew(request, lease):
        trace.renewed |= {account.name}
        move = "renew"
    else:
        cooldown = request.cool_down(lease, error, outcome.fingerprint)
        lease.end_probe(has_failed=_has_failed(error))
        pause = limits.retry_after or 0.0
        may_wait = pause <= _LONGEST_WAIT and fields.get("x-should-retry", "").strip().lower() != "false"
        if may_wait and not is_sibling and repeats < _most_in_place(error, trace.targets, target):
            least = _FIRST_WAIT * 2**repeats
            if pause >= least:
                why = f"it asked to wait {span(pause)}; up to a quarter is added"
                wait = Wait(pause * pool.rng.uniform(1.0, _MOST_JITTER), why)
            else:
                wait = Wait(least * pool.rng.uniform(1.0, 2.0), _BACK_OFF)
            move = "again"
        elif move == "sibling" and is_sibling:
            move = "forward" if error.action == "hop" and target is trace.targets[-1] else "target"
    request.note(TraceEvent("answered", account.name, outcome.fingerprint, outcome.status, error, cooldown, move))
    return move, wait


def _most_in_place(error: Classification, targets: Sequence[Target], target: Target) -> int:
    """Give the most retries on the same account after such an error."""
    has_more = target is not targets[-1]
    match error.action:
        case "retry":
            return 0 if has_more else 1
        case "retry-then-hop":
            return 1 if has_more or len(target.group.accounts) > 1 else 2
        case _:
            return 0


def _may_renew(request: _Request, lease: Lease) -> bool:
    """Whether the token may be renewed: once per request and account, and on a side route at most every 5 minutes."""
    pool, criteria, trace = request.pool, request.criteria, request.trace
    account = lease.selection.account
    if not account.can_renew or account.name in trace.renewed:
        return False
    return not criteria.side or not pool.selector.has_refused(account.name, lease.target, criteria)


def _has_failed(error: Classification) -> bool | None:
    """Whether a recovery probe with this error has failed; None if the error does not say."""
    return True if starts_cooldown(error) and is_about_an_account(error) else None


def _last_resort(request: _Request, *, may_probe: bool) -> Generator[Step, Outcome, Lease | Reject | None]:
    """Without a ready account: try one that refused before, wait for capacity, or probe one in a cooldown."""
    pool, criteria, trace = request.pool, request.criteria, request.trace
    tried = trace.passed_over
    for target in trace.targets if pool.selector.has_recent_refusals else ():
        if (refusing := pool.selector.select(target, criteria, tried, takes_refused=True)) is not None:
            return Lease(pool, target, refusing, criteria.tokens)
    if pool.capacity.is_capped:
        busy = [one for target in trace.targets for one in pool.selector.ready(target, criteria, tried)]
        if busy:
            return (yield from _wait_for_capacity(request, busy, tried))
    for target in trace.targets if may_probe else ():
        if (probe := pool.selector.select_probe(target, criteria, tried)) is not None:
            return Lease(pool, target, probe, criteria.tokens)
    return None


def _wait_for_capacity(
    request: _Request, busy: Sequence[PoolAccount], tried: AbstractSet[str]
) -> Generator[Step, Outcome, Lease | Reject]:
    """Wait in the queue until one of the busy accounts has capacity."""
    pool, criteria, trace = request.pool, request.criteria, request.trace
    at = pool.monotonic()
    soonest = min(pool.capacity.delay(one, at, criteria.tokens) for one in busy)
    if len(pool.waiting) >= request.settings.max_queue or not soonest < request.left():
        return at_capacity(pool, busy, criteria)
    ticket = Ticket(pool, trace.targets, criteria, tried)
    is_noted = False
    try:
        while (left := request.left()) > 0:
            seconds = ticket.look()
            if (lease := ticket.take()) is not None:
                return lease
            if not is_noted:
                request.note(TraceEvent("queued"))
                is_noted = True
            yield WaitForCapacity(ticket, min(left, _LOOK, seconds))
            if (lease := ticket.take()) is not None:
                return lease
    finally:
        ticket.close()
    return at_capacity(pool, busy, criteria)
