"""The gateway beside nginx and haproxy, in front of one fake upstream: CPU time per request and per event."""

import sys
import tempfile
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from bench._relays import Origin, Relay, load, running_origin, running_relays

ROUNDS = 3
STREAM_EVENTS = 300
STREAM_RATE = 100


@dataclass(frozen=True)
class Case:
    title: str
    connections: int
    requests: int
    size: int = 2048
    answer: str = "document 2048"
    events: int = 0
    """Of all streams together, where the answers are streams."""


CASES = (
    Case("2 kB requests, 1 connection", 1, 3_000),
    Case("2 kB requests, 16 connections", 16, 6_000),
    Case("200 kB requests, 16 connections", 16, 1_500, size=200_000),
    Case(
        f"400 streams of {STREAM_RATE} events/s",
        connections=400,
        requests=400,
        answer=f"stream SEED {STREAM_EVENTS} {STREAM_RATE}",
        events=400 * STREAM_EVENTS,
    ),
)


@dataclass(frozen=True)
class Run:
    cpu: float
    """Microseconds per request, or per event."""
    share: float
    """Of one core."""
    rate: float
    p50: float


def main() -> None:
    """Print a table for each case, or for those whose title contains a word that is given."""
    wanted = sys.argv[1:]
    with tempfile.TemporaryDirectory() as name, ExitStack() as stack:
        origin = stack.enter_context(running_origin())
        relays = stack.enter_context(running_relays(origin, Path(name)))
        for case in CASES:
            if not wanted or any(word in case.title for word in wanted):
                tell(case, {relay.name: best(runs) for relay, runs in measure(case, origin, relays).items()})


def measure(case: Case, origin: Origin, relays: list[Relay]) -> dict[Relay, list[Run]]:
    """Run the case through each of them in turn, several times."""
    found: dict[Relay, list[Run]] = {relay: [] for relay in relays}
    for _ in range(ROUNDS):
        for relay in relays:
            origin.ask("reset")
            before = relay.cpu_seconds()
            told = load(relay, connections=case.connections, requests=case.requests, size=case.size, answer=case.answer)
            spent = relay.cpu_seconds() - before
            check(case, told, origin.ask("figures"))
            units = case.events or case.requests
            seconds = told["seconds"]
            found[relay].append(Run(spent / units * 1e6, spent / seconds, units / seconds, told["p50"] * 1e3))
    return found


def check(case: Case, told: dict[str, Any], seen: dict[str, Any]) -> None:
    """A relay that is fast because it is wrong has lost: every request arrived once, every answer came back whole."""
    assert told["whole"] == case.requests, told
    assert (seen["requests"], seen["answered"], seen["wrong"], seen["lost"]) == (case.requests, case.requests, 0, 0)
    if case.events:
        assert seen["most_open"] == case.connections, seen


def best(runs: list[Run]) -> Run:
    """The run of the least CPU time, else of the highest rate: what disturbs a run only ever adds."""
    return min(runs, key=lambda run: (run.cpu, -run.rate))


def tell(case: Case, rows: dict[str, Run]) -> None:
    unit = "event" if case.events else "request"
    print(f"{case.title:<34}{'CPU us/' + unit:>16}{'of a core':>11}{unit + 's/s':>12}{'p50 ms':>9}{'/ nginx':>9}")
    nginx = rows.get("nginx")
    for name, run in rows.items():
        cpu, share = ("", "") if name == "directly" else (f"{run.cpu:.0f}", f"{run.share:.0%}")
        ratio = f"{nginx.cpu / run.cpu:.2f}" if nginx is not None and run.cpu else ""
        print(f"  {name:<32}{cpu:>16}{share:>11}{run.rate:>12.0f}{run.p50:>9.2f}{ratio:>9}", flush=True)


if __name__ == "__main__":
    main()
