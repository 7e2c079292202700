"""Time that the gateway and its first-content gate add before a stream's first byte and first content."""

import tempfile
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from bench._relays import Origin, Relay, load, running_origin, running_relays

ROUNDS = 5
REQUESTS = 300
EVENTS = 20
LATE = 10
SIZE = 2048

GATED = "/v1/messages?beta=true"
UNGATED = "/v1/messages/count_tokens?beta=true"
"""A path that is not gated, not even for the stream that the origin returns here."""


@dataclass(frozen=True)
class Case:
    title: str
    answer: str


CASES = (
    Case("content with message_start", f"stream SEED {EVENTS} 0"),
    Case(f"content {LATE} ms after it", f"stream SEED {EVENTS} 0 {LATE}"),
)


@dataclass(frozen=True)
class Run:
    """Medians, in milliseconds from the request."""

    first_byte: float
    content: float


def main() -> None:
    """Print a table for each case."""
    with tempfile.TemporaryDirectory() as name, ExitStack() as stack:
        origin = stack.enter_context(running_origin())
        paths = paths_through(stack.enter_context(running_relays(origin, Path(name))))
        for case in CASES:
            print_table(case, {title: best(runs) for title, runs in measure(case, origin, paths).items()})


def paths_through(relays: list[Relay]) -> dict[str, tuple[Relay, str]]:
    """Relays with a path, by the row's title."""
    named = {relay.name: relay for relay in relays}
    gateway = named["tokenferry"]
    # Without `option http-no-delay` haproxy sends a head with the data after it, which distorts the figures.
    paths = {name: (named[name], GATED) for name in ("directly", "nginx") if name in named}
    return paths | {"tokenferry, not gated": (gateway, UNGATED), "tokenferry, gated": (gateway, GATED)}


def measure(case: Case, origin: Origin, paths: dict[str, tuple[Relay, str]]) -> dict[str, list[Run]]:
    """Run the case through each of them in turn, several times, one request at a time."""
    found: dict[str, list[Run]] = {title: [] for title in paths}
    for _ in range(ROUNDS):
        for title, (relay, path) in paths.items():
            origin.ask("reset")
            figures = load(relay, path=path, connections=1, requests=REQUESTS, size=SIZE, answer=case.answer)
            check(figures, origin.ask("figures"))
            found[title].append(Run(figures["first_byte"] * 1e3, figures["first_content"] * 1e3))
    return found


def check(figures: dict[str, Any], counted: dict[str, Any]) -> None:
    """Check that every request arrived once, and every stream came back whole."""
    assert figures["whole"] == REQUESTS, figures
    assert (counted["requests"], counted["answered"], counted["wrong"], counted["lost"]) == (
        REQUESTS,
        REQUESTS,
        0,
        0,
    ), counted


def best(runs: list[Run]) -> Run:
    """The minimum of each figure; disturbances only add time."""
    return Run(min(run.first_byte for run in runs), min(run.content for run in runs))


def print_table(case: Case, rows: dict[str, Run]) -> None:
    columns = f"{'first byte ms':>15}{'added':>8}{'content ms':>13}{'added':>8}{'/ direct':>10}{'/ nginx':>9}"
    print(f"{case.title:<30}{columns}")
    direct, nginx = rows["directly"], rows.get("nginx")
    for title, run in rows.items():
        added = "", ""
        if run is not direct:
            added = f"{run.first_byte - direct.first_byte:.2f}", f"{run.content - direct.content:.2f}"
        ratio = "" if nginx is None else f"{run.content / nginx.content:.2f}"
        times = f"{run.first_byte:>15.2f}{added[0]:>8}{run.content:>13.2f}{added[1]:>8}"
        print(f"  {title:<28}{times}{run.content / direct.content:>10.2f}{ratio:>9}", flush=True)


if __name__ == "__main__":
    main()
