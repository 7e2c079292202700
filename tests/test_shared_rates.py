"""Processes that add up what they charged now and then: together they never pass more than is stated."""

import math
import random
from collections.abc import Sequence

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from effort import effort
from tokenferry.rates import FleetRates, Permit, RateReport, Share, SharedLimiter, SubjectUse
from tokenferry.settings import Caps
from tokenferry.state import key_caps

KEY = "key_1"
ACTIVE = 0.5


class Sums:
    """The `SharedRates` of one subject, by a clock that the test sets."""

    def __init__(self, processes: int, caps: Caps) -> None:
        self.processes = processes
        self.caps = caps
        self.owed, self.at = [0.0, 0.0], 0.0
        self.busy = dict.fromkeys(range(processes), 0)

    def exchange(self, process: int, report: RateReport, at: float) -> FleetRates:
        rates = (self.caps.requests_per_minute / 60, self.caps.tokens_per_minute / 60)
        charged = (report.requests, report.tokens)
        self.owed = [
            max(max(owed - rate * (at - self.at), 0) + more, 0)
            for owed, rate, more in zip(self.owed, rates, charged, strict=True)
        ]
        self.at = at
        self.busy[process] = report.busy
        elsewhere = sum(busy for one, busy in self.busy.items() if one != process)
        requests, tokens = self.owed
        return FleetRates(Share(process, self.processes), {KEY: SubjectUse(requests, tokens, elsewhere)})


seeds = st.integers(0, 2**32)


def schedule(seed: int, *, losses: bool = False) -> list[tuple[int, str, float]]:
    """Which process does what, after which pause: bursts of requests, and exchanges that others overtake."""
    chance = random.Random(seed)
    kinds = ("ask", "ask", "ask", "end", "send", "answer", *(["lose", "drop"] if losses else []))
    pauses = chance.choice(((0.0,), (0.0, 0.01), (0.0, 0.05, 0.3)))
    found: list[tuple[int, str, float]] = []
    while len(found) < 150:
        one = chance.randrange(4), chance.choice(kinds), chance.choice(pauses)
        found += [one] * (chance.randint(1, 12) if one[1] == "ask" else 1)
    return found


class Processes:
    """So many processes that ask, exchange and end requests in any order. No one goes longer without an exchange."""

    def __init__(self, count: int, caps: Caps) -> None:
        self.sums = Sums(count, caps)
        self.at = 1000.0
        self.limiters = [SharedLimiter("its key", caps, Share(one, count), self.at) for one in range(count)]
        self.permits: list[list[Permit]] = [[] for _ in range(count)]
        self.sent: list[FleetRates | None] = [None] * count
        self.heard = [self.at] * count
        self.passed: list[float] = []
        self.most_busy = 0

    def run(self, steps: Sequence[tuple[int, str, float]]) -> None:
        for which, what, pause in steps:
            self.at += pause
            for one, heard in enumerate(self.heard):
                if self.at - heard > ACTIVE:
                    self.send(one)
                    self.answer(one)
            getattr(self, what)(which % len(self.limiters))

    def ask(self, one: int) -> None:
        limiter = self.limiters[one]
        if limiter.has_slot and not limiter.delay(self.at, 0):
            self.permits[one].append(Permit((limiter,), self.at, 0))
            self.passed.append(self.at)
            self.most_busy = max(self.most_busy, sum(map(len, self.permits)))

    def end(self, one: int) -> None:
        if self.permits[one]:
            self.permits[one].pop().settle(self.at, 0)

    def send(self, one: int) -> None:
        if self.sent[one] is None:
            self.sent[one] = self.sums.exchange(one, self.limiters[one].report(KEY), self.at)

    def answer(self, one: int) -> None:
        found, self.sent[one] = self.sent[one], None
        if found is not None:
            self.limiters[one].adopt(self.at, found.share, found.uses[KEY])
            self.heard[one] = self.at

    def lose(self, one: int) -> None:
        """The answer doesn't come, though what was reported counts."""
        found, self.sent[one] = self.sent[one], None
        if found is not None:
            self.limiters[one].lose(self.at, found.share)

    def drop(self, one: int) -> None:
        """The report doesn't come."""
        if self.sent[one] is None:
            self.limiters[one].report(KEY)
            self.limiters[one].lose(self.at, Share(one, len(self.limiters)))


@settings(max_examples=effort(300))
@given(st.integers(1, 4), st.integers(1, 60), seeds)
def test_no_stretch_of_time_has_more_than_the_cap_and_half_a_burst(count: int, per_minute: int, seed: int) -> None:
    processes = Processes(count, key_caps(requests_per_minute=per_minute))
    processes.run(schedule(seed))
    passed, rate = processes.passed, per_minute / 60
    ahead = 0 if count == 1 else max(per_minute / 2, count)
    for first, start in enumerate(passed):
        for number, end in enumerate(passed[first:], 1):
            assert number <= rate * (end - start + 2 * ACTIVE) + per_minute + ahead + 1e-3


@settings(max_examples=effort(300))
@given(st.integers(1, 4), st.integers(1, 12), seeds)
def test_requests_at_a_time_are_no_more_than_the_cap_and_half_of_it(count: int, most: int, seed: int) -> None:
    processes = Processes(count, key_caps(max_concurrency=most))
    processes.run(schedule(seed))
    assert processes.most_busy <= most + (0 if count == 1 else max(most // 2, count))


@settings(max_examples=effort(200))
@given(st.integers(2, 4), st.integers(1, 60), seeds)
def test_without_answers_each_has_its_even_part(count: int, per_minute: int, seed: int) -> None:
    """What is reported twice counts twice, and never is anything let through that isn't charged."""
    processes = Processes(count, key_caps(requests_per_minute=per_minute))
    processes.run(schedule(seed, losses=True))
    passed, rate = processes.passed, per_minute / 60
    for first, start in enumerate(passed):
        for number, end in enumerate(passed[first:], 1):
            assert number <= rate * (end - start + 2 * ACTIVE) + 2 * max(per_minute, count) + 1e-3


def test_one_process_alone_has_all_of_a_cap() -> None:
    limiter = SharedLimiter("its key", key_caps(requests_per_minute=60, max_concurrency=40), Share(), 0.0)
    for _ in range(40):
        assert limiter.has_slot
        assert not limiter.delay(0.0, 0)
        Permit((limiter,), 0.0, 0)
    assert not limiter.has_slot


@given(st.lists(st.integers(1, 900), min_size=1, max_size=20), st.integers(1, 5))
def test_tokens_that_a_request_did_not_use_come_back(expected: list[int], count: int) -> None:
    limiter = SharedLimiter("its key", key_caps(tokens_per_minute=60_000), Share(0, count), 0.0)
    permits = [Permit((limiter,), 0.0, tokens) for tokens in expected]
    assert limiter.report(KEY).tokens == sum(expected)
    limiter.adopt(0.0, Share(0, count), SubjectUse(0.0, float(sum(expected)), 0))
    for permit in permits:
        permit.settle(0.0, 1)
    assert limiter.report(KEY).tokens == len(expected) - sum(expected)


def test_the_whole_cap_is_there_for_the_one_process_that_is_asked() -> None:
    """With four of them, and one that has all of the traffic: it gets nearly as much as there is."""
    caps = key_caps(requests_per_minute=600)
    processes = Processes(4, caps)
    for _ in range(3000):
        processes.run([(0, "ask", 0.02)])
        if processes.limiters[0].is_due:
            processes.send(0)
            processes.answer(0)
    seconds = processes.at - 1000.0
    assert len(processes.passed) == pytest.approx(600 + 10 * seconds, rel=0.05)


def test_a_cap_that_is_lifted_and_lowered_counts_at_once() -> None:
    limiter = SharedLimiter("its key", key_caps(max_concurrency=1), Share(0, 2), 0.0)
    Permit((limiter,), 0.0, 0)
    found = [limiter.has_slot]
    limiter.configure(key_caps(), Share(0, 2), 0.0)
    found.append(limiter.has_slot)
    assert found == [False, True]
    limiter.configure(key_caps(requests_per_minute=1), Share(0, 2), 0.0)
    assert limiter.delay(0.0, 0) == 0
    limiter.charge(0.0, 1, 0)
    assert math.isclose(limiter.delay(0.0, 0), 120.0)


def test_sums_are_those_of_all() -> None:
    """The rig itself: what two processes report is owed by both."""
    processes = Processes(2, key_caps(requests_per_minute=60))
    for one in (0, 1):
        processes.limiters[one].charge(processes.at, one + 1, 0)
        processes.send(one)
    assert processes.sums.owed[0] == 3


def test_a_report_without_an_answer_is_made_again() -> None:
    limiter = SharedLimiter("its key", key_caps(requests_per_minute=60), Share(0, 2), 0.0)
    limiter.charge(0.0, 3, 0)
    assert limiter.report(KEY).requests == 3
    limiter.charge(0.0, 2, 0)
    limiter.lose(0.0, Share(0, 2))
    assert limiter.report(KEY).requests == 5
