"""CPU time per request of a gateway with accounts, state and ledger in PostgreSQL, compared with one in files."""

import sys
import tempfile
from pathlib import Path
from statistics import quantiles

from bench._relays import ROOT, Origin, Relay, load, running_gateways, running_origin

ROUNDS = 30
REQUESTS = 2_000
CONNECTIONS = 16
STORE = '[store]\nurl = "{url}"\nunsealed = true\n'


def main() -> None:
    """Print microseconds per request, and the ratio."""
    sys.path.insert(0, str(ROOT / "tests"))
    try:
        from e2e.postgres import VERSIONS, running_postgres  # noqa: PLC0415  # not in the benchmarks' environment
    except ImportError as fault:
        print(f"there is no PostgreSQL here: {fault}")
        return
    with tempfile.TemporaryDirectory() as name, running_postgres(VERSIONS[0]) as server, running_origin() as origin:
        configs = {"files": "", "PostgreSQL": STORE.format(url=server.url(server.create()))}
        with running_gateways(origin, Path(name), configs) as gateways:
            costs: dict[Relay, list[float]] = {one: [] for one in gateways}
            for number in range(ROUNDS):
                for one in gateways if number % 2 else reversed(gateways):
                    costs[one].append(cost(one, origin))
            print_table(dict(zip(configs, costs.values(), strict=True)))


def cost(gateway: Relay, origin: Origin) -> float:
    """The gateway's CPU time per request of a round, in microseconds."""
    origin.ask("reset")
    before = gateway.running_seconds()
    figures = load(gateway, connections=CONNECTIONS, requests=REQUESTS, size=2048, answer="document 2048")
    assert figures["whole"] == REQUESTS, figures
    return (gateway.running_seconds() - before) / REQUESTS * 1e6


def print_table(costs: dict[str, list[float]]) -> None:
    """Print the minimum and the first quartile over rounds that alternate; disturbances only add time."""
    title = f"{CONNECTIONS} connections, {ROUNDS} rounds of {REQUESTS} requests"
    print(f"{title:<48}{'CPU us/request':>14}{'quartile':>10}{'median':>9}")
    found = {name: (min(one), *quantiles(one, n=4)[:2]) for name, one in costs.items()}
    for name, (least, quartile, middle) in found.items():
        print(f"  {name:<46}{least:>14.1f}{quartile:>10.1f}{middle:>9.1f}", flush=True)
    least, quartile, middle = (theirs / ours for ours, theirs in zip(*found.values(), strict=True))
    print(f"  {'ratio':<46}{least:>14.3f}{quartile:>10.3f}{middle:>9.3f}")


if __name__ == "__main__":
    main()
