"""The gateway beside nginx, haproxy and a bare relay before one fake upstream: CPU time, delay, memory, start."""

import sys
import tempfile
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path
from statistics import median
from typing import Any

from bench._relays import Origin, Relay, load, running_origin, running_relays, time_to_ready

ROUNDS = 3
STARTS = 5
STREAMS = 400
STREAM_EVENTS = 300
STREAM_RATE = 100
BURST = 50
BUSY = 0.9
"""Share of a core from which the load or the origin may be the bottleneck."""


@dataclass(frozen=True)
class Case:
    title: str
    connections: int
    requests: int
    size: int = 2048
    answer: str = "document 2048"
    events: int = 0
    """In all streams together, if CPU time is counted per event."""

    @property
    def is_timed(self) -> bool:
        """Whether the case measures the delay of each event."""
        return self.answer.endswith("timed")


CASES = (
    Case("2 kB requests, 1 connection", 1, 3_000),
    Case("2 kB requests, 16 connections", 16, 6_000),
    Case("200 kB requests, 16 connections", 16, 1_500, size=200_000),
    Case(f"bursts of {BURST} events, 16 connections", 16, 3_000, answer=f"stream 1 {BURST} 0"),
    Case(
        f"{STREAMS} streams of {STREAM_RATE} events/s",
        connections=STREAMS,
        requests=STREAMS,
        answer=f"stream SEED {STREAM_EVENTS} {STREAM_RATE} timed",
        events=STREAMS * STREAM_EVENTS,
    ),
)
START = "ready after start"


@dataclass(frozen=True)
class Run:
    cpu: float
    """Microseconds per request, or per event."""
    share: float
    """Of one core."""
    rate: float
    p50: float
    """Milliseconds to the end of a response; for timed streams the delay of an event."""
    p99: float
    resident: float
    """MiB, after the run."""
    remarks: tuple[str, ...]


def main() -> None:
    """Print a table for each case, or for the cases whose title contains one of the given words."""
    wanted = sys.argv[1:]
    with tempfile.TemporaryDirectory() as name, ExitStack() as stack:
        folder = Path(name)
        origin = stack.enter_context(running_origin())
        relays = stack.enter_context(running_relays(origin, folder))
        for case in CASES:
            if not wanted or any(word in case.title for word in wanted):
                print_table(case, {relay.name: best(runs) for relay, runs in measure(case, origin, relays).items()})
        if not wanted or any(word in START for word in wanted):
            times = sorted(time_to_ready(origin, folder) for _ in range(STARTS))
            print(f"{START}: {median(times):.2f} s (median of {STARTS}; {times[0]:.2f} to {times[-1]:.2f})")


def measure(case: Case, origin: Origin, relays: list[Relay]) -> dict[Relay, list[Run]]:
    """Run the case through each relay in turn, several times."""
    found: dict[Relay, list[Run]] = {relay: [] for relay in relays}
    for _ in range(ROUNDS):
        for relay in relays:
            origin.ask("reset")
            before, origin_before = relay.cpu_seconds(), origin.cpu_seconds()
            figures = load(
                relay, connections=case.connections, requests=case.requests, size=case.size, answer=case.answer
            )
            spent, origin_spent = relay.cpu_seconds() - before, origin.cpu_seconds() - origin_before
            units, seconds = case.events or case.requests, figures["seconds"]
            kind = "delay_" if case.is_timed else ""
            found[relay].append(
                Run(
                    spent / units * 1e6,
                    spent / seconds,
                    units / seconds,
                    figures[f"{kind}p50"] * 1e3,
                    figures[f"{kind}p99"] * 1e3,
                    relay.resident(),
                    (
                        *shortfalls(case, figures, origin.ask("figures")),
                        *busy_processes({"the load": figures["cpu"] / seconds, "the origin": origin_spent / seconds}),
                    ),
                )
            )
    return found


def shortfalls(case: Case, figures: dict[str, Any], counted: dict[str, Any]) -> list[str]:
    """What a relay could not handle. A wrong response ends the benchmark: speed doesn't excuse it."""
    assert not figures["wrong"], figures
    assert not counted["wrong"], counted
    remarks = []
    if figures["whole"] != case.requests:
        remarks.append(f"{figures['whole']} of {case.requests} answered")
    if case.events and counted["most_open"] != case.connections:
        remarks.append(f"{counted['most_open']} of {case.connections} open")
    return remarks


def busy_processes(shares: dict[str, float]) -> list[str]:
    """Other processes that used nearly all of a core, so that the figures may be theirs."""
    return [f"{name} used {share:.0%} of a core" for name, share in shares.items() if share > BUSY]


def best(runs: list[Run]) -> Run:
    """The run with the least CPU time, else the highest rate; disturbances only add time."""
    return min(runs, key=lambda run: (run.cpu, -run.rate))


def print_table(case: Case, rows: dict[str, Run]) -> None:
    unit, times = "event" if case.events else "request", "delay" if case.is_timed else "ms"
    columns = f"{'CPU us/' + unit:>16}{'of a core':>11}{unit + 's/s':>12}{times + ' p50':>11}{'p99':>8}{'added':>8}"
    print(f"{case.title:<38}{columns}{'MiB':>7}{'/ nginx':>9}")
    nginx, direct = rows.get("nginx"), rows["directly"]
    for name, run in rows.items():
        cpu, share, added, resident = "", "", "", ""
        if run is not direct:
            cpu, share = f"{run.cpu:.1f}" if case.events else f"{run.cpu:.0f}", f"{run.share:.0%}"
            added, resident = f"{run.p99 - direct.p99:.2f}", f"{run.resident:.0f}"
        ratio = f"{nginx.cpu / run.cpu:.2f}" if nginx is not None and run.cpu else ""
        figures = f"{cpu:>16}{share:>11}{run.rate:>12.0f}{run.p50:>11.2f}{run.p99:>8.2f}{added:>8}"
        print(f"  {name:<36}{figures}{resident:>7}{ratio:>9}", flush=True)
        for remark in run.remarks:
            print(f"    {remark}")


if __name__ == "__main__":
    main()
