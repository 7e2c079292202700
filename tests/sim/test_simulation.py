"""The real flow, journal and file store under mishaps of every kind, and the proof that the simulation notices."""

import itertools
import logging

import pytest

from sim.disk import Killed
from sim.mutants import MUTANTS, mutated_flow
from sim.schedule import check, heal_and_try, run_schedule
from sim.world import NAME, Machine, Weather
from tokenferry.refresh import Job

_SCHEDULES = 2500
_ENOUGH_FOR_MUTANTS = 6000


@pytest.fixture(autouse=True)
def _quiet(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(logging.root.manager, "disable", logging.CRITICAL)


def test_no_schedule_breaks_an_invariant() -> None:
    for seed in range(_SCHEDULES):
        machine = run_schedule(seed)
        assert not machine.violations, report(seed, machine)


@pytest.mark.parametrize("power", [False, True], ids=["kill", "power cut"])
def test_a_crash_at_any_disk_operation_loses_nothing_that_was_answered(*, power: bool) -> None:
    """Every operation of one refresh is the last one, once by a kill and ten times by a power cut."""
    total = _operations_of_one_refresh()
    for step, attempt in itertools.product(range(1, total + 1), range(10 if power else 1)):
        machine = Machine(attempt, Weather())
        machine.spawn(Job(NAME, needs=30.0))
        machine.crash_at = machine.disk.operations + step
        machine.crash_with_power = power
        machine.run(machine.time + 600)
        heal_and_try(machine)
        check(machine)
        assert not machine.violations, f"operation {step}: {report(attempt, machine)}"


def _operations_of_one_refresh() -> int:
    machine = Machine(0, Weather())
    before = machine.disk.operations
    machine.spawn(Job(NAME, needs=30.0))
    machine.run(machine.time + 600)
    return machine.disk.operations - before


@pytest.mark.parametrize("name", sorted(MUTANTS))
def test_every_mutant_of_the_flow_is_caught(name: str) -> None:
    """The simulation is tested itself: a flow with one safeguard taken out must break an invariant."""
    flow = mutated_flow(name)
    for seed in range(_ENOUGH_FOR_MUTANTS):
        try:
            if run_schedule(seed, flow).violations:
                return
        except (AssertionError, Killed):
            return
    pytest.fail(f"{_ENOUGH_FOR_MUTANTS} schedules did not notice: {name}")


def report(seed: int, machine: Machine) -> str:
    """Everything that a person needs to replay and understand a failure."""
    return "\n".join((f"seed {seed}: {'; '.join(machine.violations)}", *machine.log))
