"""`python -m sim [SCHEDULES] [FIRST SEED]`: many schedules on all cores, with a summary; a failure prints its seed."""

import logging
import os
import sys
import time
from collections import Counter
from collections.abc import Callable
from concurrent.futures import ProcessPoolExecutor

from sim.beside import run_beside
from sim.fleet import Fleet, run_fleet
from sim.neighbours import Neighbours
from sim.schedule import run_schedule
from sim.workloads import Workload, run_workload
from sim.world import Machine

_BATCH = 500
_BESIDE = 4
"""One schedule of so many has Claude Code as a neighbour."""
_EACH = 16
"""One of so many, the second, is about a workload's identity, exchanged instead of refreshed."""
_FLEETS = 3
"""This one of them has several hosts, which share a database."""


def runner(seed: int) -> Callable[[int], Machine]:
    """The kind of schedule that a seed stands for."""
    if seed % _BESIDE == 0:
        return run_beside
    if seed % _EACH == 1:
        return run_workload
    return run_fleet if seed % _EACH == _FLEETS else run_schedule


def run_batch(first: int) -> tuple[Counter[str], list[str]]:
    """Run one batch of seeds; give what was counted, and a report for every violation."""
    logging.disable(logging.CRITICAL)
    counts: Counter[str] = Counter()
    failures: list[str] = []
    for seed in range(first, first + _BATCH):
        machine = runner(seed)(seed)
        counts["schedules"] += 1
        counts["processes"] += len(machine.processes)
        counts["processes killed"] += sum(process.killed for process in machine.processes)
        counts["grants"] += machine.server.grants
        counts["refresh tokens presented"] += len(machine.server.presentations)
        if isinstance(machine, Neighbours):
            counts["schedules beside Claude Code"] += 1
            counts["processes of Claude Code"] += len(machine.claudes)
            counts["refresh tokens it presented"] += sum(len(claude.sent) for claude in machine.claudes)
            counts["with a stated exception"] += bool(machine.excuses)
        if isinstance(machine, Workload):
            counts["schedules of workloads"] += 1
            counts["identity tokens exchanged"] += machine.exchanges
        if isinstance(machine, Fleet):
            counts["schedules of several hosts"] += 1
            counts["hosts cut from the database"] += sum("loses the database" in line for line in machine.log)
            counts["failovers that lost commits"] += sum("a failover loses" in line for line in machine.log)
        counts["answers lost for good"] += sum(not one.settled for one in machine.sent)
        counts["power cuts"] += sum("power cut" in line for line in machine.log)
        counts["logins lost"] += type(machine.processes[-1].ended).__name__ == "NeedsLogin"
        if machine.violations:
            failures.append("\n".join((f"seed {seed}: {'; '.join(machine.violations)}", *machine.log)))
    return counts, failures


def main(schedules: int = 1_000_000, first: int = 0) -> int:
    """Run them; the exit code says whether every invariant held."""
    started = time.monotonic()
    totals: Counter[str] = Counter()
    failures: list[str] = []
    with ProcessPoolExecutor(os.cpu_count()) as pool:
        for number, (counts, failed) in enumerate(pool.map(run_batch, range(first, first + schedules, _BATCH)), 1):
            totals += counts
            failures += failed
            if sys.stderr.isatty() or number % 100 == 0:
                say(f"\r{number * _BATCH:>9} of {schedules} schedules, {len(failures)} failed ")
    say("\n")
    for failure in failures[:5]:
        say(f"{failure}\n\n")
    for name, count in totals.items():
        say(f"{name:<30}{count:>12,}\n")
    say(f"{'invariants broken':<30}{len(failures):>12,}\n{'seconds':<30}{time.monotonic() - started:>12,.0f}\n")
    return bool(failures)


def say(text: str) -> None:
    sys.stderr.write(text)
    sys.stderr.flush()


if __name__ == "__main__":
    sys.exit(main(*(int(argument) for argument in sys.argv[1:3])))
