"""Many requests at once over accounts with caps."""

from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, precondition, rule

from effort import effort
from pool import runs as j
from tokenferry.pool import Criteria, SendAttempt, WaitForCapacity
from tokenferry.settings import Caps, PoolSettings

CAP, QUEUE = 2, 3


class Crowd(RuleBasedStateMachine):
    """Requests begin, are answered, end or are given up in any order."""

    def __init__(self) -> None:
        super().__init__()
        options = PoolSettings(max_queue=QUEUE, total_timeout=60, caps=Caps(max_concurrency=CAP))
        self.rig = j.Rig(("a", "b"), settings=options)
        self.running: list[j.Run] = []
        self.waiting: list[j.Run] = []
        self.woken: list[j.Run] = []
        self.wants: dict[j.Run, Criteria] = {}

    def _left(self, run: j.Run) -> float:
        return self.rig.settings.total_timeout - (self.rig.clock.steady - run.trace.began)

    def _step(self, run: j.Run) -> None:
        step = run.next()
        if isinstance(step, SendAttempt):
            self.running.append(run)
        elif isinstance(step, WaitForCapacity):
            self.waiting.append(run)
        else:
            run.close()

    @rule(allowed=st.sampled_from([None, frozenset("a"), frozenset("b")]), session=st.sampled_from(["", "s"]))
    def begin(self, allowed: frozenset[str] | None, session: str) -> None:
        criteria = Criteria(session, allowed)
        run = self.rig.run(criteria)
        self.wants[run] = criteria

        def wake() -> None:
            self.waiting.remove(run)
            self.woken.append(run)

        run.wake = wake
        self._step(run)

    @precondition(lambda self: self.woken)
    @rule(data=st.data())
    def go_on(self, data: st.DataObject) -> None:
        run = data.draw(st.sampled_from(self.woken))
        self.woken.remove(run)
        is_late = self._left(run) <= 0
        step = run.next()
        assert isinstance(step, SendAttempt) or is_late, "a place that was granted is taken"
        if isinstance(step, SendAttempt):
            self.running.append(run)
        else:
            run.close()

    @precondition(lambda self: self.running)
    @rule(data=st.data(), answer=st.sampled_from([j.OK, j.OVERLOADED, j.busy(5), j.UNEXPLAINED]))
    def answer(self, data: st.DataObject, answer: j.Reply) -> None:
        run = data.draw(st.sampled_from(self.running))
        self.running.remove(run)
        j.reply(run, answer)
        if answer is j.OK:
            run.close()
        else:
            self._step(run)

    @precondition(lambda self: self.running or self.waiting or self.woken)
    @rule(data=st.data())
    def give_up(self, data: st.DataObject) -> None:
        run = data.draw(st.sampled_from(self.running + self.waiting + self.woken))
        for some in (self.running, self.waiting, self.woken):
            if run in some:
                some.remove(run)
                break
        run.close()

    @rule(seconds=st.sampled_from([1.0, 6.0, 70.0]))
    def time_passes(self, seconds: float) -> None:
        """Whoever waits looks again after a second, and serves those before it as well."""
        self.rig.clock.pass_by(seconds)
        for run in [*self.waiting]:
            if run not in self.waiting:
                continue
            self.waiting.remove(run)
            self._step(run)
            assert run not in self.waiting or self._left(run) > 0, "nobody waits longer than a request may take"

    @invariant()
    def caps_hold(self) -> None:
        assert all(0 < count <= CAP for count in self.rig.pool.capacity.busy.values())
        assert sum(self.rig.pool.capacity.busy.values()) == len(self.running) + len(self.woken)

    @invariant()
    def the_queue_is_bounded_and_true(self) -> None:
        assert set(self.rig.pool.waiting) == {run.ticket for run in self.waiting}
        assert len(self.waiting) <= QUEUE

    @invariant()
    def nobody_waits_for_an_account_that_has_a_place_and_may_serve(self) -> None:
        for run in self.waiting:
            criteria = self.wants[run]
            choice = self.rig.pool.selector.report(self.rig.targets[0], criteria, run.trace.tried)
            assert choice.account is None

    def teardown(self) -> None:
        for run in (*self.running, *self.waiting, *self.woken):
            run.close()
        assert not self.rig.pool.capacity.busy
        assert not self.rig.pool.waiting


TestCrowd = Crowd.TestCase
TestCrowd.settings = settings(max_examples=effort(40), stateful_step_count=40, deadline=None)
