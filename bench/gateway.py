"""The gateway beside nginx, haproxy and a bare relay, in front of one fake upstream: CPU time, delay, memory, start."""

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
"""Of a core: what makes or answers the load may be the limit from here on."""


@dataclass(frozen=True)
class Case:
    title: str
    connections: int
    requests: int
    size: int = 2048
    answer: str = "document 2048"
    events: int = 0
    """Of all streams together, where CPU time is counted by event."""

    @property
    def is_timed(self) -> bool:
        """Whether it is the delay of each event that is measured."""
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
    """Milliseconds to the end of an answer; of timed streams the delay of an event."""
    p99: float
    resident: float
    """MiB, after the run."""
    remarks: tuple[str, ...]


def main() -> None:
    """Print a table for each case, or for those whose title contains a word that is given."""
    wanted = sys.argv[1:]
    with tempfile.TemporaryDirectory() as name, ExitStack() as stack:
        folder = Path(name)
        origin = stack.enter_context(running_origin())
        relays = stack.enter_context(running_relays(origin, folder))
        for case in CASES:
            if not wanted or any(word in case.title for word in wanted):
                tell(case, {relay.name: best(runs) for relay, runs in measure(case, origin, relays).items()})
        if not wanted or any(word in START for word in wanted):
            times = sorted(time_to_ready(origin, folder) for _ in range(STARTS))
            print(f"{START}: {median(times):.2f} s (median of {STARTS}; {times[0]:.2f} to {times[-1]:.2f})")


def measure(case: Case, origin: Origin, relays: list[Relay]) -> dict[Relay, list[Run]]:
    """Run the case through each of them in turn, several times."""
    found: dict[Relay, list[Run]] = {relay: [] for relay in relays}
    for _ in range(ROUNDS):
        for relay in relays:
            origin.ask("reset")
            before, origin_before = relay.cpu_seconds(), origin.cpu_seconds()
            told = load(relay, connections=case.connections, requests=case.requests, size=case.size, answer=case.answer)
            spent, origin_spent = relay.cpu_seconds() - before, origin.cpu_seconds() - origin_before
            units, seconds = case.events or case.requests, told["seconds"]
            kind = "delay_" if case.is_timed else ""
            found[relay].append(
                Run(
                    spent / units * 1e6,
                    spent / seconds,
                    units / seconds,
                    told[f"{kind}p50"] * 1e3,
                    told[f"{kind}p99"] * 1e3,
                    relay.resident(),
                    (
                        *what_fell_short(case, told, origin.ask("figures")),
                        *who_was_busy({"the load": told["cpu"] / seconds, "the origin": origin_spent / seconds}),
                    ),
                )
            )
    return found


def what_fell_short(case: Case, told: dict[str, Any], seen: dict[str, Any]) -> list[str]:
    """What a relay could not hold. One that is fast because it is wrong has lost: no answer may be another's."""
    assert not told["wrong"], told
    assert not seen["wrong"], seen
    remarks = []
    if told["whole"] != case.requests:
        remarks.append(f"{told['whole']} of {case.requests} answered")
    if case.events and seen["most_open"] != case.connections:
        remarks.append(f"{seen['most_open']} of {case.connections} open")
    return remarks


def who_was_busy(shares: dict[str, float]) -> list[str]:
    """Who of those that are not measured used nearly all of a core: figures beside it may be theirs."""
    return [f"{who} used {share:.0%} of a core" for who, share in shares.items() if share > BUSY]


def best(runs: list[Run]) -> Run:
    """The run of the least CPU time, else of the highest rate: what disturbs a run only ever adds."""
    return min(runs, key=lambda run: (run.cpu, -run.rate))


def tell(case: Case, rows: dict[str, Run]) -> None:
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
