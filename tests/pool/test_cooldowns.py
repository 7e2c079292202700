"""What is known of cooldowns, whatever is noted of however many models, and whoever writes it down meanwhile."""

from datetime import UTC, datetime

from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, rule
from msgspec.structs import replace

from effort import effort
from pool import runs as j
from tokenferry.pool import (
    Change,
    CooldownAdded,
    CooldownCleared,
    Criteria,
    OrganizationSeen,
    Target,
)
from tokenferry.pool._cooldowns import CooldownCache, Key, key_of
from tokenferry.state import Cooldown, Scope, later

MOST = 3
NOW = 1_800_000_000

scopes = st.builds(
    Scope,
    kind=st.sampled_from(["account", "organization"]),
    name=st.sampled_from(["a", "b"]),
    family=st.sampled_from(["", *(f"model-{number}" for number in range(MOST + 3))]),
)
ends = st.none() | st.integers(-5, 60)


class Recorded(RuleBasedStateMachine):
    """Cooldowns are noted and cleared; now and then they are written down, and what is on record is adopted."""

    def __init__(self) -> None:
        super().__init__()
        self.now = NOW
        self.cooldowns = CooldownCache(lambda: float(self.now), most_narrow=MOST)
        self.disk: dict[Key, Cooldown] = {}
        self.known: dict[Key, Cooldown] = {}
        """What `changes` come to; noted last, last in order."""
        self.seen = 0

    @rule(scope=scopes, cause=st.sampled_from(["window", "forbidden"]), end=ends, is_better_informed=st.booleans())
    def note(self, scope: Scope, cause: str, end: int | None, *, is_better_informed: bool) -> None:
        cooldown = Cooldown(scope, cause, "answer", None if end is None else self.now + end, noted_at=self.now)
        before = self.known
        narrow = {one.scope.family for one in before.values() if one.scope.family}
        self.cooldowns.note(cooldown, is_better_informed=is_better_informed)
        self.follow()
        noted = self.cooldowns.current(cooldown)
        assert noted is not None, "none is refused"
        assert noted in self.cooldowns.of(scope.kind, scope.name, ("", scope.family))
        lost = [one for key, one in before.items() if key not in self.known]
        if lost:
            assert len(narrow) == MOST, "there was room"
            assert scope.family not in narrow
            assert all(one.scope.family for one in lost), "what holds for all models doesn't give way to a model"
            if holding := {one.scope.family for one in lost if not one.is_over(self.now)}:
                assert len(holding) == 1
                others = [one for one in self.known.values() if one.scope.family and one is not self.last]
                assert not any(one.is_over(self.now) for one in others), "what is over goes first"

    @rule(scope=scopes, cause=st.sampled_from(["window", "forbidden"]))
    def clear(self, scope: Scope, cause: str) -> None:
        cooldown = Cooldown(scope, cause, "answer")
        self.cooldowns.clear(cooldown)
        self.follow()
        assert self.cooldowns.current(cooldown) is None

    @rule(seconds=st.sampled_from([1, 20, 100]))
    def time_passes(self, seconds: int) -> None:
        self.now += seconds

    @rule(count=st.integers(0, 5), is_at_once=st.booleans())
    def write(self, count: int, *, is_at_once: bool) -> None:
        """The first of them are written, and what is on record is told, perhaps while more is noted."""
        written = 0
        for _ in range(min(count, len(self.cooldowns.changes))):
            change = self.cooldowns.changes.popleft()
            self.seen -= 1
            self.apply(change, self.disk)
            written = change.number
        if written:
            self.cooldowns.adopt(self.disk.values(), {}, written)
            if is_at_once:
                self.cooldowns.refresh()

    def follow(self) -> None:
        self.known = dict(self.known)
        for change in list(self.cooldowns.changes)[self.seen :]:
            self.apply(change, self.known)
        self.seen = len(self.cooldowns.changes)

    def apply(self, change: Change, to: dict[Key, Cooldown]) -> None:
        if isinstance(change, CooldownAdded):
            new, old = change.cooldown, to.pop(key_of(change.cooldown), None)
            if old is not None and not change.is_better_informed:
                new = later(old, new, self.now)
            self.last = to[key_of(change.cooldown)] = replace(new)
        elif isinstance(change, CooldownCleared):
            to.pop((change.scope.kind, change.scope.name, change.scope.family, change.cause), None)

    @invariant()
    def of_so_many_families_and_models_at_most_something_is_known(self) -> None:
        assert len(self.cooldowns.narrow) <= MOST

    @invariant()
    def what_is_known_is_what_was_told_to_be_written_down(self) -> None:
        families = {one.scope.family for one in self.known.values()}
        assert set(self.cooldowns.narrow) == families - {""}
        found = [
            one
            for kind in ("account", "organization")
            for name in "ab"
            for one in self.cooldowns.of(kind, name, ("", *self.cooldowns.narrow))
        ]
        assert {key_of(one) for one in found} == set(self.known)
        assert bool(self.cooldowns) is bool(self.known)


TestRecorded = Recorded.TestCase
TestRecorded.settings = settings(max_examples=effort(80), stateful_step_count=30, deadline=None)


def test_the_one_goes_that_nothing_was_noted_of_for_the_longest_time() -> None:
    cooldowns = CooldownCache(lambda: float(NOW), most_narrow=MOST)

    def note(model: str, account: str = "a") -> None:
        cooldowns.note(Cooldown(Scope("account", account, model), "forbidden", "answer", NOW + 60, noted_at=NOW))

    for model in ("x", "y", "z", "x", "w"):
        note(model)
    assert list(cooldowns.narrow) == ["z", "x", "w"]
    note("z", "b")
    cooldowns.adopt(
        [*cooldowns.of("account", "a", cooldowns.narrow), *cooldowns.of("account", "b", cooldowns.narrow)], {}, 99
    )
    note("v")
    assert list(cooldowns.narrow) == ["w", "z", "v"]


def test_keys_of_one_organization_share_its_limit() -> None:
    rig = j.Rig()
    # c answers first, so that its organization is known; then a is limited, and with it c, which shares it.
    j.serve(rig, "c", j.Reply(200, ((b"anthropic-organization-id", b"org"),)))
    assert rig.serve(j.ANY, j.busy(30, "org")) == ["a", "b"]
    passed = {one.account: one.cause for one in rig.pool.selector.report(rig.targets[0], j.ANY).passed_over}
    assert passed == {"a": "rate-limit", "c": "rate-limit"}
    assert rig.serve(targets=[Target(rig.group, "claude-opus-4-5")]) == ["a"]


def test_an_organization_is_learned_once_and_passed_on() -> None:
    rig = j.Rig()
    for _ in range(3):
        j.serve(rig, "a", j.Reply(200, ((b"anthropic-organization-id", b"org"),)))
    assert [
        (one.account, one.organization) for one in rig.pool.cooldowns.changes if isinstance(one, OrganizationSeen)
    ] == [("a", "org")]


def test_a_subscriptions_limits_are_its_own_whatever_its_organization() -> None:
    rig = j.Rig()
    targets = [Target(j.group("one", "a", "b", kind="oauth", bills_subscription=True, organization="org"), j.SONNET)]
    assert rig.serve(j.ANY, j.busy(30, "org"), targets=targets) == ["a", "b"]
    assert rig.serve(targets=targets) == ["b"]


@given(st.integers(1, 20_000))
def test_an_account_is_never_passed_over_once_its_time_has_come(seconds: int) -> None:
    rig = j.Rig(("a", "b"))
    rig.serve(j.ANY, j.busy(seconds))
    rig.clock.pass_by(seconds)
    assert rig.serve() == ["a"]


def test_failures_without_an_end_back_off_longer_each_time_until_a_success() -> None:
    rig = j.Rig(("a", "b"))
    waits = []
    for _ in range(8):
        j.serve(rig, "a", j.UNPAID)
        (noted,) = rig.pool.cooldowns.of("account", "a")
        assert noted.until is not None
        waits.append(noted.until - noted.noted_at)
        assert rig.serve() == ["b"], "what another account serves changes nothing"
        rig.clock.pass_by(61)
        assert rig.serve(Criteria(pinned="a", side="/v1/models")) == ["a"], "nor what a side route does"
    assert waits == [60, 120, 240, 480, 960, 1920, 3600, 3600]
    j.serve(rig, "a", j.OK)
    assert not rig.pool._failures


def test_findings_are_passed_on_to_be_stored() -> None:
    rig = j.Rig()
    rig.serve(j.ANY, j.limited())
    (change,) = rig.pool.cooldowns.changes
    assert isinstance(change, CooldownAdded)
    cooldown = change.cooldown
    assert (cooldown.scope, cooldown.cause, cooldown.source) == (Scope("account", "a"), "window", "answer")
    assert cooldown.noted_at == int(j.NOW)
    assert cooldown.until is not None
    assert datetime.fromtimestamp(cooldown.until, UTC).year == 2027


def test_no_flood_of_invented_models_keeps_what_is_found_out_of_a_model_from_counting() -> None:
    rig = j.Rig()
    for number in range(1100):
        rig.serve(j.ANY, j.FORBIDDEN, targets=[Target(rig.group, f"invented-{number}")])
    rig.serve(j.ANY, j.FORBIDDEN)
    assert rig.serve() == ["b"]
    assert len(rig.pool.cooldowns.narrow) == 1000
