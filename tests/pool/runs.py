"""A pool with clocks that stand still, and what upstreams answer it."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from random import Random
from typing import TypeAlias

from tokenferry.pool import (
    AccountGroup,
    CapacityGranted,
    ConnectFailed,
    CredentialUnavailable,
    Criteria,
    ErrorResponse,
    Forward,
    Headers,
    NotRenewed,
    Outcome,
    Pool,
    PoolAccount,
    Reject,
    SendAttempt,
    Served,
    Step,
    Target,
    TargetUnfit,
    Ticket,
    Trace,
    UpstreamLost,
    WaitForCapacity,
    WaitOver,
    failover,
)
from tokenferry.settings import PoolSettings, Strategy

End: TypeAlias = Step | Forward | Reject | None

NOW = 1_800_000_000.0
SONNET = "claude-sonnet-4-5"
UNIFIED = b"anthropic-ratelimit-unified-"
ANY = Criteria()


class Clock:
    """Both clocks of a pool."""

    def __init__(self) -> None:
        self.wall = NOW
        self.steady = 1000.0

    def pass_by(self, seconds: float) -> None:
        self.wall += seconds
        self.steady += seconds


@dataclass(frozen=True)
class Reply:
    """An upstream's answer."""

    status: int = 200
    headers: Headers = ()
    body: bytes = b"{}"


OK = Reply()
UNEXPLAINED = Reply(429)
THROTTLED = Reply(429, ((UNIFIED + b"status", b"allowed"), (UNIFIED + b"5h-status", b"allowed")))
OVERLOADED = Reply(529, (), b'{"type":"error","error":{"type":"overloaded_error","message":"Overloaded"}}')
FAILED = Reply(500)
REFUSED = Reply(401, (), b'{"type":"error","error":{"type":"authentication_error","message":"invalid x-api-key"}}')
FORBIDDEN = Reply(403, (), b'{"type":"error","error":{"type":"permission_error","message":"no"}}')
UNPAID = Reply(402)
MISSING = Reply(404)
SLOW = Reply(504)
WRONG = Reply(400, (), b'{"type":"error","error":{"type":"invalid_request_error","message":"messages: required"}}')
BROKE = Reply(
    400,
    (),
    b'{"type":"error","error":{"type":"invalid_request_error","message":"Your credit balance is too low to go on"}}',
)


def limited(seconds: float = 9000.0, *, window: str = "5h", now: float = NOW) -> Reply:
    """A subscription's window is used up."""
    name = UNIFIED + window.encode()
    headers = (
        (UNIFIED + b"status", b"rejected"),
        (name + b"-status", b"rejected"),
        (name + b"-reset", b"%d" % (now + seconds)),
    )
    return Reply(429, headers)


def busy(seconds: int = 30, organization: str = "") -> Reply:
    """An organization's rate limit is reached."""
    told = ((b"anthropic-organization-id", organization.encode()),) if organization else ()
    return Reply(429, ((b"retry-after", b"%d" % seconds), *told))


class Run:
    """A request's failover, driven step by step: `next` gives what it asks for, or how it ended."""

    def __init__(self, pool: Pool, targets: Sequence[Target], criteria: Criteria) -> None:
        self.fingerprint = ""
        self.wake: Callable[[], object] = list
        self.trace = Trace(pool.monotonic())
        self.failover = failover(pool, targets, criteria, self.trace)
        self._now: Step | Forward | Reject | None = None

    def next(self) -> Step | Forward | Reject:
        """What it asks for now; for one that waits, what it asks for once the wait is over."""
        if self._now is None or isinstance(self._now, WaitForCapacity):
            self._go(None if self._now is None else CapacityGranted() if self._is_granted else WaitOver())
        assert self._now is not None
        return self._now

    def served(self, headers: Headers, status: int = 200) -> None:
        self._go(Served(status, headers, self.fingerprint))

    def answered(self, status: int, headers: Headers, body: bytes, *, is_whole: bool = True) -> None:
        self._go(ErrorResponse(status, headers, body, self.fingerprint, is_whole=is_whole))

    def unsent(self, reason: str) -> None:
        self._go(ConnectFailed(reason, self.fingerprint))

    def unfit(self, reason: str) -> None:
        self._go(TargetUnfit(reason))

    def lost(self, reason: str) -> None:
        self._go(UpstreamLost(reason, self.fingerprint))

    def unavailable(self, reason: str, retry_after: float | None = None) -> None:
        self._go(CredentialUnavailable(reason, retry_after, reason))

    def not_renewed(self, reason: str, *, is_dead: bool = False) -> None:
        self._go(NotRenewed(reason, is_dead=is_dead))

    @property
    def ticket(self) -> Ticket:
        """What it waits with."""
        assert isinstance(self._now, WaitForCapacity)
        return self._now.ticket

    def close(self) -> None:
        """End it, as a driver does when its request ends, in whichever way."""
        self.failover.close()
        if isinstance(self._now, Forward) and self._now.lease is not None:
            self._now.lease.end()

    def _go(self, outcome: Outcome | None) -> None:
        self._is_granted = False
        try:
            self._now = self.failover.send(outcome)  # type: ignore[arg-type]  # None starts a generator
        except StopIteration as end:
            self._now = end.value
        if isinstance(self._now, WaitForCapacity):
            self._now.ticket.wake = self._granted

    def _granted(self) -> None:
        self._is_granted = True
        self.wake()


@dataclass
class Rig:
    """A pool, its clock, and one provider with some accounts."""

    accounts: Sequence[str] = ("a", "b", "c")
    settings: PoolSettings = field(default_factory=PoolSettings)
    clock: Clock = field(default_factory=Clock)
    seed: int = 7

    def __post_init__(self) -> None:
        self.pool = Pool(
            self.settings, now=lambda: self.clock.wall, monotonic=lambda: self.clock.steady, rng=Random(self.seed)
        )
        self.group = group("one", *self.accounts)
        self.targets = [Target(self.group, SONNET)]

    def run(self, criteria: Criteria = ANY, targets: Sequence[Target] | None = None) -> Run:
        return Run(self.pool, self.targets if targets is None else targets, criteria)

    def serve(self, criteria: Criteria = ANY, *replies: Reply, targets: Sequence[Target] | None = None) -> list[str]:
        """A request that is answered so, and by OK then; the accounts that were tried."""
        run = self.run(criteria, targets)
        tried, _ = travel(run, [*replies, OK], self.clock)
        run.close()
        return tried


def group(provider: str, *accounts: str, **about: object) -> AccountGroup:
    return AccountGroup(provider, tuple(PoolAccount(name, provider, **about) for name in accounts))  # type: ignore[arg-type]


def reply(run: Run, answer: Reply) -> None:
    if answer.status == OK.status and answer.body == OK.body:
        run.served(answer.headers)
    else:
        run.answered(answer.status, answer.headers, answer.body)


def travel(run: Run, replies: Sequence[Reply], clock: Clock | None = None) -> tuple[list[str], End]:
    """Answer each try with the next reply; the accounts that were tried, and the last step. None: it was served."""
    tried: list[str] = []
    for answer in replies:
        step = run.next()
        if not isinstance(step, SendAttempt):
            return tried, step
        if clock is not None:
            clock.pass_by(step.wait)
        tried.append(step.account.name)
        reply(run, answer)
        if answer is OK:
            return tried, None
    return tried, run.next()


def refusal(step: End) -> Reject:
    assert isinstance(step, Reject), step
    return step


def trying(step: End) -> SendAttempt:
    assert isinstance(step, SendAttempt), step
    return step


def giving(step: End) -> Forward:
    assert isinstance(step, Forward), step
    return step


def queueing(step: End) -> WaitForCapacity:
    assert isinstance(step, WaitForCapacity), step
    return step


def usage_reply(utilization: float, *, reset: float = 9000.0, window: str = "5h", now: float = NOW) -> Reply:
    """A good answer with the used share of a window."""
    name = UNIFIED + window.encode()
    return Reply(
        200,
        (
            (name + b"-status", b"allowed"),
            (name + b"-utilization", str(utilization).encode()),
            (name + b"-reset", b"%d" % (now + reset)),
        ),
    )


def rig_of(strategy: Strategy, accounts: str = "abc", **options: object) -> Rig:
    return Rig(tuple(accounts), settings=PoolSettings(strategy=strategy, **options))  # type: ignore[arg-type]


def serve(rig: Rig, account: str, answer: Reply) -> None:
    """Have exactly this account give this answer."""
    run = rig.run(Criteria(pinned=account))
    assert trying(run.next()).account.name == account
    reply(run, answer)
    run.close()
    rig.clock.pass_by(2)
