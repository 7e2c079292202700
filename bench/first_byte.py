"""What the gateway, and its first-content gate, add to the time until a stream's first byte and first content."""

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
"""What is no message isn't held, not even the stream that the origin answers with here."""


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
        ways = ways_through(stack.enter_context(running_relays(origin, Path(name))))
        for case in CASES:
            tell(case, {title: best(runs) for title, runs in measure(case, origin, ways).items()})


def ways_through(relays: list[Relay]) -> dict[str, tuple[Relay, str]]:
    """Relays with a path, by what a row is called."""
    named = {relay.name: relay for relay in relays}
    gateway = named["tokenferry"]
    # Without `option http-no-delay` haproxy sends a head together with what follows: its figures would mislead.
    ways = {name: (named[name], GATED) for name in ("directly", "nginx") if name in named}
    return ways | {"tokenferry, not gated": (gateway, UNGATED), "tokenferry, gated": (gateway, GATED)}


def measure(case: Case, origin: Origin, ways: dict[str, tuple[Relay, str]]) -> dict[str, list[Run]]:
    """Run the case through each of them in turn, several times, one request after the other."""
    found: dict[str, list[Run]] = {title: [] for title in ways}
    for _ in range(ROUNDS):
        for title, (relay, path) in ways.items():
            origin.ask("reset")
            told = load(relay, path=path, connections=1, requests=REQUESTS, size=SIZE, answer=case.answer)
            check(told, origin.ask("figures"))
            found[title].append(Run(told["first_byte"] * 1e3, told["first_content"] * 1e3))
    return found


def check(told: dict[str, Any], seen: dict[str, Any]) -> None:
    """Every request arrived once, every stream came back whole."""
    assert told["whole"] == REQUESTS, told
    assert (seen["requests"], seen["answered"], seen["wrong"], seen["lost"]) == (REQUESTS, REQUESTS, 0, 0), seen


def best(runs: list[Run]) -> Run:
    """The least of each: what disturbs a run only ever adds."""
    return Run(min(run.first_byte for run in runs), min(run.content for run in runs))


def tell(case: Case, rows: dict[str, Run]) -> None:
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
