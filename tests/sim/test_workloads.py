"""A workload's exchange under mishaps of every kind, and the proof that the simulation notices."""

import logging

import pytest

from effort import effort
from sim.workloads import MUTANTS, mutated_exchange, run_workload

_SCHEDULES = effort(1000)
_AT_ONCE = 100
_ENOUGH_FOR_MUTANTS = 3000


@pytest.fixture(autouse=True)
def _quiet(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(logging.root.manager, "disable", logging.CRITICAL)


@pytest.mark.parametrize("first", range(0, _SCHEDULES, _AT_ONCE))
def test_no_schedule_breaks_an_invariant(first: int) -> None:
    for seed in range(first, first + _AT_ONCE):
        machine = run_workload(seed)
        assert not machine.violations, "\n".join((f"seed {seed}: {machine.violations}", *machine.log))


@pytest.mark.parametrize("name", sorted(MUTANTS))
def test_every_mutant_of_the_exchange_is_caught(name: str) -> None:
    flow = mutated_exchange(name)
    assert any(run_workload(seed, flow).violations for seed in range(_ENOUGH_FOR_MUTANTS))
