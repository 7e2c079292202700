"""The real flow, store, journal, locks and spill of several hosts over one virtual database, and its mutants."""

import logging

import pytest

from effort import effort
from sim.fleet import Fleet, run_fleet
from sim.fleet_mutants import MUTANTS, mutated

_SCHEDULES = effort(200)
_AT_ONCE = 20


@pytest.fixture(autouse=True)
def _quiet(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(logging.root.manager, "disable", logging.CRITICAL)


@pytest.mark.parametrize("first", range(0, _SCHEDULES, _AT_ONCE))
def test_no_schedule_presents_a_token_twice_or_loses_a_login(first: int) -> None:
    for seed in range(first, first + _AT_ONCE):
        fleet = run_fleet(seed)
        assert not fleet.violations, report(seed, fleet)


def test_a_denial_is_known_after_a_failover_that_lost_the_login_found_behind_it() -> None:
    assert not run_fleet(11197).violations


@pytest.mark.parametrize("name", sorted(MUTANTS))
def test_every_mutant_of_a_fleet_is_caught(name: str) -> None:
    one = MUTANTS[name]
    conditions = one.weather, one.trouble
    assert not run_fleet(one.seed, conditions=conditions).violations
    assert run_fleet(one.seed, mutated(name), conditions).violations


def report(seed: int, fleet: Fleet) -> str:
    """Everything that a person needs to replay and understand a failure."""
    return "\n".join((f"seed {seed}: {'; '.join(fleet.violations)}", *fleet.log))
