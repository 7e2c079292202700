"""The real flow, journal and file store under mishaps of every kind, and the proof that the simulation notices."""

import itertools
import logging
from collections.abc import Callable
from functools import partial

import pytest

from effort import FULL, effort
from sim import beside
from sim.beside import run_beside
from sim.disk import Killed
from sim.lock_mutants import LOCK_MUTANTS
from sim.mutants import BESIDE, BESIDE_TOO, MUTANTS, mutated_flow
from sim.neighbours import Neighbours
from sim.schedule import check, heal_and_try, run_schedule
from sim.world import NAME, Machine, Weather
from tokenferry.refresh import RefreshRequest

_SCHEDULES = effort(2500)
_SCHEDULES_BESIDE = effort(1000)
_POWER_CUTS = 10 if FULL else 3
_AT_ONCE = 100
"""Schedules of one test, so that the tests can be spread over processors."""
_ENOUGH_FOR_MUTANTS = 6000
_RARE = {
    "forgets that a token was presented": 149,
    "forgets the first attempt when the retry is closed": 505,
    "grants anew while a renewed token waits to be written": 1108,
    "overwrites what another program wrote": 206,
    "releases before it publishes": 837,
    "releases before it sends": 82,
    "retries an uncertain attempt while the access token lives": 763,
    "retries for ever": 424,
    "sends without a note": 218,
}
"""Mutants that few schedules catch, and one that did: the search begins there."""


def expired(seed: int, weather: Weather) -> Neighbours:
    """Claude Code's login, used up, and none of its processes."""
    machine = Neighbours(seed, weather)
    machine.write_login(machine.server.login(), expires_at=machine.time - 10)
    return machine


@pytest.fixture(autouse=True)
def _quiet(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(logging.root.manager, "disable", logging.CRITICAL)


@pytest.mark.parametrize("first", range(0, _SCHEDULES, _AT_ONCE))
def test_no_schedule_breaks_an_invariant(first: int) -> None:
    for seed in range(first, first + _AT_ONCE):
        machine = run_schedule(seed)
        assert not machine.violations, report(seed, machine)


def in_clear(seed: int, weather: Weather) -> Machine:
    return Machine(3 * seed + 1, weather)


def sealed(seed: int, weather: Weather) -> Machine:
    machine = Machine(3 * seed, weather)
    assert machine.is_sealed
    return machine


@pytest.mark.parametrize("make", [in_clear, sealed, expired], ids=["our file", "our sealed file", "Claude Code's"])
@pytest.mark.parametrize("power", [False, True], ids=["kill", "power cut"])
def test_a_crash_at_any_disk_operation_loses_nothing_that_was_answered(
    make: Callable[[int, Weather], Machine], *, power: bool
) -> None:
    """Every operation of one refresh is the last one, once by a kill and several times by a power cut."""
    total = _operations_of_one_refresh(make)
    for step, attempt in itertools.product(range(1, total + 1), range(_POWER_CUTS if power else 1)):
        machine = make(attempt, Weather())
        machine.spawn(RefreshRequest(NAME, needs=30.0))
        machine.crash_at = machine.disk.operations + step
        machine.crash_with_power = power
        machine.run(machine.time + 600)
        if isinstance(machine, Neighbours):
            beside.check(machine, beside.heal_and_try(machine))
        else:
            heal_and_try(machine)
            check(machine)
        assert not machine.violations, f"operation {step}: {report(attempt, machine)}"


def _operations_of_one_refresh(make: Callable[[int, Weather], Machine]) -> int:
    machine = make(0, Weather())
    before = machine.disk.operations
    machine.spawn(RefreshRequest(NAME, needs=30.0))
    machine.run(machine.time + 600)
    return machine.disk.operations - before


@pytest.mark.parametrize("name", sorted(MUTANTS))
def test_every_mutant_of_the_flow_is_caught(name: str) -> None:
    """The simulation is tested itself: a flow with one safeguard taken out must break an invariant."""
    check_that_it_is_noticed(partial(run_schedule, flow=mutated_flow(name)), _RARE.get(name, 0))


@pytest.mark.parametrize("first", range(0, _SCHEDULES_BESIDE, _AT_ONCE))
def test_no_schedule_beside_claude_code_breaks_an_invariant(first: int) -> None:
    for seed in range(first, first + _AT_ONCE):
        machine = run_beside(seed)
        assert not machine.violations, report(seed, machine)


@pytest.mark.parametrize("name", [*BESIDE, *BESIDE_TOO])
def test_every_mutant_of_the_flow_beside_claude_code_is_caught(name: str) -> None:
    check_that_it_is_noticed(partial(run_beside, flow=mutated_flow(name)), _RARE.get(name, 0))


@pytest.mark.parametrize("name", sorted(LOCK_MUTANTS))
def test_every_mutant_of_its_locks_is_caught(name: str) -> None:
    check_that_it_is_noticed(partial(run_beside, make_lock=LOCK_MUTANTS[name]))


def check_that_it_is_noticed(run: Callable[[int], Machine], first: int = 0) -> None:
    for seed in itertools.chain(range(first, _ENOUGH_FOR_MUTANTS), range(first)):
        try:
            if run(seed).violations:
                return
        except (AssertionError, Killed):
            return
    pytest.fail(f"{_ENOUGH_FOR_MUTANTS} schedules did not notice it")


def report(seed: int, machine: Machine) -> str:
    """Everything that a person needs to replay and understand a failure."""
    return "\n".join((f"seed {seed}: {'; '.join(machine.violations)}", *machine.log))
