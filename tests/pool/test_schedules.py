"""Whatever upstreams answer, in whichever order: what a run and its pool never do."""

from collections.abc import Sequence
from dataclasses import dataclass

import pytest
from hypothesis import event, given, settings
from hypothesis import strategies as st

from effort import effort
from pool import runs as j
from tokenferry.pool import Criteria, Forward, Reject, SendAttempt, Target, WaitForCapacity, WaitOver
from tokenferry.settings import Caps, Overage, PoolSettings, Strategy

UNSENT, LOST, UNAVAILABLE, NOT_RENEWED = "unsent", "lost", "unavailable", "not renewed"
REPLIES = (
    j.OK,
    j.UNEXPLAINED,
    j.THROTTLED,
    j.OVERLOADED,
    j.FAILED,
    j.REFUSED,
    j.FORBIDDEN,
    j.UNPAID,
    j.MISSING,
    j.SLOW,
    j.WRONG,
    j.BROKE,
    j.limited(),
    j.limited(30),
    j.limited(400_000, window="7d"),
    j.limited(window="7d_sonnet"),
    j.busy(),
    j.busy(2, "org"),
    j.busy(4000, "org"),
)
ONE_SIBLING = (UNSENT, j.UNEXPLAINED, j.THROTTLED, j.OVERLOADED, j.FAILED, j.MISSING, j.SLOW)
"""After these one other account at most is asked, then the next target, also if something else comes of the next."""
outcomes = st.one_of(st.sampled_from(REPLIES), st.sampled_from([UNSENT, LOST, UNAVAILABLE]))
strategies: st.SearchStrategy[Strategy] = st.sampled_from(
    ["priority", "round-robin", "least-utilised", "drain-soonest-reset"]
)
overages: st.SearchStrategy[Overage] = st.sampled_from(["allow", "avoid", "refuse"])


@dataclass(frozen=True)
class Asked:
    """One request, what it is answered, and the time that goes by before it."""

    session: str
    pause: float
    outcomes: Sequence[j.Reply | str]
    allowed: frozenset[str] | None
    pinned: str | None
    is_side: bool
    model: str
    is_renewed: bool


asked = st.builds(
    Asked,
    session=st.sampled_from(["", "x", "y"]),
    pause=st.sampled_from([0.0, 1.0, 31.0, 70.0, 400.0, 9100.0]),
    outcomes=st.lists(outcomes, max_size=12),
    allowed=st.one_of(st.none(), st.frozensets(st.sampled_from("abcde"), max_size=3)),
    pinned=st.sampled_from([None, None, None, "a", "d", "z"]),
    is_side=st.booleans(),
    model=st.sampled_from([j.SONNET, "claude-opus-4-5"]),
    is_renewed=st.booleans(),
)
pools = st.builds(
    PoolSettings,
    strategy=strategies,
    max_attempts=st.integers(1, 14),
    total_timeout=st.sampled_from([1.0, 20.0, 120.0]),
    max_queue=st.integers(0, 2),
    overage=overages,
    caps=st.builds(
        Caps, requests_per_minute=st.sampled_from([0.0, 0.0, 30.0]), max_concurrency=st.sampled_from([0, 0, 1])
    ),
)


def hops_of(model: str) -> list[Target]:
    return [
        Target(ROSTERS[0], model),
        Target(ROSTERS[1], f"mapped-{model}"),
    ]


ROSTERS = (j.group("one", "a", "b", "c"), j.group("two", "d", "e", kind="oauth", bills_subscription=True))


class Driver:
    """Takes a run to its end, and looks at each step."""

    def __init__(self, rig: j.Rig, run: j.Run, criteria: Criteria, targets: Sequence[Target], request: Asked) -> None:
        self.rig, self.run, self.criteria, self.targets, self.request = rig, run, criteria, targets, request
        self.tried: list[tuple[str, str]] = []
        self.sent = 0
        self.last: j.Reply | str | None = None

    def drive(self) -> None:
        outcomes = iter(self.request.outcomes)
        began = self.rig.clock.steady
        for _ in range(200):
            step = self.run.next()
            if isinstance(step, WaitForCapacity):
                assert 0 < step.seconds <= self.rig.settings.total_timeout
                self.rig.clock.pass_by(step.seconds)
                continue
            if not isinstance(step, SendAttempt):
                self.ends_with(step)
                break
            self.tries(step, began)
            self.rig.clock.pass_by(step.wait)
            outcome = next(outcomes, j.OK)
            if step.renew and not self.request.is_renewed:
                outcome = NOT_RENEWED
            if not self.comes_of_it(outcome):
                break
        else:
            raise AssertionError("a run without an end")
        assert self.sent <= self.rig.settings.max_attempts
        after = self.run.next()
        assert isinstance(after, Forward | Reject)
        self.run.close()
        self.run.close()
        with pytest.raises(StopIteration):
            self.run.failover.send(WaitOver())

    def tries(self, step: SendAttempt, began: float) -> None:
        name = step.account.name
        assert step.account in step.target.group.accounts
        assert self.criteria.allowed is None or name in self.criteria.allowed
        assert self.criteria.pinned in {None, name}
        assert self.rig.clock.steady + step.wait - began <= self.rig.settings.total_timeout + 1e-6
        if self.criteria.pinned is None and not step.is_probe and not self.tried and not self.criteria.side:
            # Whoever is benched is passed over, wherever its conversation lives.
            assert name not in self.blocked(step.target)
        assert self.rig.pool.capacity.busy[name] >= 1
        most = self.rig.settings.caps.max_concurrency
        assert not most or self.rig.pool.capacity.busy[name] <= most
        self.tried.append((step.target.group.provider, name))

    def blocked(self, target: Target) -> set[str]:
        choice = self.rig.pool.selector.report(target, Criteria())
        return {one.account for one in choice.passed_over if one.cause and one.cause != "overage"}

    def comes_of_it(self, outcome: j.Reply | str) -> bool:
        """Report it; tells whether the run goes on."""
        self.last = outcome
        match outcome:
            case "unavailable":
                self.run.unavailable("needs a login", 5.0)
                return True
            case "not renewed":
                self.run.not_renewed("needs a login")
                return True
        self.sent += 1
        match outcome:
            case "unsent":
                self.run.unsent("connection refused")
            case "lost":
                self.run.lost("no answer")
                assert isinstance(self.run.next(), Forward), "what may have been paid for is sent again"
                return False
            case j.Reply():
                j.reply(self.run, outcome)
                if outcome is j.OK:
                    assert isinstance(self.run.next(), Forward), "sent again after content"
                    return False
        return True

    def ends_with(self, step: Forward | Reject) -> None:
        gave_up = isinstance(step, Reject) and step.cause in {"gave_up", "at_capacity"}
        event(step.cause if isinstance(step, Reject) else "give")
        if gave_up:
            return
        names = {one.name for target in self.targets for one in target.group.accounts}
        allowed = names if self.criteria.allowed is None else names & self.criteria.allowed
        allowed = allowed if self.criteria.pinned is None else allowed & {self.criteria.pinned}
        if isinstance(step, Reject) and step.cause == "no_allowed_account":
            assert not allowed
            return
        if isinstance(step, Reject) and step.cause == "exhausted":
            assert all(name in step.message for name in allowed)
        if self.last is j.WRONG or any(one in self.request.outcomes for one in ONE_SIBLING):
            return  # about no account: the table says how many accounts of a provider are asked then
        unused = allowed - {name for _, name in self.tried}
        for target in self.targets:
            unused -= self.blocked(target)
        assert not unused, f"{unused} could have served"


@given(pools, st.lists(asked, min_size=1, max_size=8), st.integers(0, 3))
@settings(max_examples=effort(400))
def test_no_schedule_of_answers_breaks_the_rules(options: PoolSettings, requests: list[Asked], seed: int) -> None:
    """No available account stays unused while a request fails; nothing is sent twice after content or after what may
    have been paid for; stickiness never beats exhaustion; attempts and time are bounded; nothing is left behind."""
    rig = j.Rig(settings=options, seed=seed)
    for request in requests:
        rig.clock.pass_by(request.pause)
        targets = hops_of(request.model)
        criteria = Criteria(
            request.session, request.allowed, request.pinned, "/v1/messages/count_tokens" * request.is_side
        )
        Driver(rig, rig.run(criteria, targets), criteria, targets, request).drive()
        assert not rig.pool.capacity.busy
        assert not rig.pool.waiting
        assert not rig.pool._candidates.probes._running


ABOUT_ACCOUNTS = (j.OK, j.REFUSED, j.FORBIDDEN, j.UNPAID, j.BROKE, *REPLIES[12:])
about_accounts = st.one_of(st.sampled_from(ABOUT_ACCOUNTS), st.just(UNAVAILABLE))


@given(
    strategies,
    st.lists(
        st.builds(
            Asked,
            session=st.sampled_from(["", "x", "y"]),
            pause=st.sampled_from([0.0, 3.0, 70.0, 9100.0]),
            outcomes=st.lists(about_accounts, max_size=9),
            allowed=st.one_of(st.none(), st.frozensets(st.sampled_from("abcde"), min_size=1)),
            pinned=st.none(),
            is_side=st.just(False),
            model=st.sampled_from([j.SONNET, "claude-opus-4-5"]),
            is_renewed=st.booleans(),
        ),
        min_size=1,
        max_size=6,
    ),
)
@settings(max_examples=effort(200))
def test_no_account_that_could_serve_is_left_aside(strategy: Strategy, requests: list[Asked]) -> None:
    """Where answers are about accounts alone, a request fails only when every account was tried or is benched."""
    rig = j.Rig(settings=PoolSettings(strategy=strategy, max_attempts=100))
    for request in requests:
        rig.clock.pass_by(request.pause)
        targets = hops_of(request.model)
        criteria = Criteria(request.session, request.allowed)
        Driver(rig, rig.run(criteria, targets), criteria, targets, request).drive()
