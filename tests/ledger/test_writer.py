"""What is written down never costs a request anything, and is never missing without being counted."""

import logging
import signal
import subprocess
import sys
import threading
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import pytest

from ledger.books import DAY, HOUR, NOW, PRICES, entry
from tokenferry.errors import CorruptFile
from tokenferry.ledger import CostCounters, Ledger, LedgerEntry, LedgerWriter, WindowPoint, cost_route
from tokenferry.ledger._costs import Spent
from tokenferry.prices import UNKNOWN
from tokenferry.settings import LedgerSettings


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "home" / "ledger.db"


class Clock:
    def __init__(self) -> None:
        self.wall, self.steady = NOW, 0.0

    def pass_by(self, seconds: float) -> None:
        self.wall += seconds
        self.steady += seconds


@pytest.fixture
def clock() -> Clock:
    return Clock()


@pytest.fixture
def make(path: Path, clock: Clock) -> Callable[..., LedgerWriter[LedgerEntry]]:
    def make(**more: object) -> LedgerWriter[LedgerEntry]:
        return LedgerWriter(
            lambda: Ledger(path, now=lambda: clock.wall),
            lambda one: one,
            lambda: PRICES,
            now=lambda: clock.wall,
            monotonic=lambda: clock.steady,
            **more,  # type: ignore[arg-type]
        )

    return make


def count(path: Path) -> int:
    with Ledger(path) as ledger:
        return int(ledger.rows("SELECT count(*) FROM requests")[0][0])


Make = Callable[..., LedgerWriter[LedgerEntry]]


def test_all_is_written_when_it_ends(make: Make, path: Path) -> None:
    with make() as writer:
        for number in range(1700):
            writer.add(entry(number))
    assert count(path) == writer.statistics().written == 1700
    assert writer.statistics().waiting == 0
    assert writer.statistics().bytes > 0


def test_what_ends_during_a_write_is_for_the_next_batch(
    make: Make, path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Each is a transaction of its own, which other processes wait for."""
    writer, sizes, write = make(), list[int](), Ledger.write

    def writing(ledger: Ledger, entries: Sequence[LedgerEntry], *more: Any) -> Spent:
        sizes.append(len(entries))
        writer.add(entry(1000 + len(sizes)))
        return write(ledger, entries, *more)

    monkeypatch.setattr(Ledger, "write", writing)
    writer.add(*map(entry, range(700)))
    writer._cycle()
    assert sizes == [500, 201]
    writer._cycle()
    assert sizes == [500, 201, 1]
    assert count(path) == 702


def test_what_it_has_written_costs_as_much_as_the_sums_say(make: Make, path: Path) -> None:
    paid = ("metered", "plan")
    rows = [entry(number, account=f"a{number % 3}", billing=paid[number % 2]) for number in range(40)]
    with make() as writer:
        writer.add(*rows, entry(41, input=0, output=0))
    with Ledger(path) as ledger:
        sums = ledger.rows("SELECT sum(cost_micros) FROM requests")[0][0]
    assert sum(writer.costs.routes.values()) == sum(writer.costs.keys.values()) == sums > 0
    assert {(account, billing, source) for _, account, _, billing, source in writer.costs.routes} == {
        (f"a{number % 3}", paid[number % 2], "list") for number in range(6)
    }


def test_what_waits_is_bounded_and_the_rest_is_counted(
    make: Make, path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    writer = make(limit=10)
    for number in range(25):
        writer.add(entry(number))
    assert (writer.statistics().waiting, writer.statistics().dropped) == (10, 15)
    with writer:
        pass
    assert count(path) == 10
    assert "15 requests are missing in the ledger" in caplog.text


def test_a_file_that_is_damaged_costs_a_line_and_nothing_else(
    make: Make, path: Path, clock: Clock, caplog: pytest.LogCaptureFixture
) -> None:
    path.parent.mkdir(0o700)
    path.touch(0o600)
    path.write_bytes(b"no database" * 500)
    writer = make()
    writer.add(entry(1))
    for _ in range(3):
        writer.guarded(writer._cycle)
        clock.pass_by(60)
    assert writer.statistics().is_failing
    assert (writer.statistics().waiting, writer.statistics().lag) == (1, 180.0)
    lines = [record.getMessage() for record in caplog.records if record.levelno >= logging.WARNING]
    assert len(lines) == 1
    assert lines[0].startswith("usage is not recorded: ")
    assert "move it" in lines[0]
    path.unlink()
    writer.add(entry(2))
    writer.guarded(writer._cycle)
    assert not writer.statistics().is_failing
    assert count(path) == 2


def test_a_failing_ledger_is_tried_again_after_a_while_and_logged_once(
    make: Make, path: Path, clock: Clock, caplog: pytest.LogCaptureFixture
) -> None:
    opened = []

    class Failing(LedgerWriter[LedgerEntry]):
        pass

    def fail() -> Ledger:
        opened.append(clock.steady)
        raise CorruptFile("damaged")

    writer = Failing(fail, lambda one: one, lambda: PRICES, monotonic=lambda: clock.steady)
    writer.add(entry(1))
    for _ in range(40):
        writer.guarded(writer._cycle)
        clock.pass_by(1)
    assert opened == [0.0, 10.0, 20.0, 30.0]
    assert caplog.text.count("usage is not recorded: damaged") == 1


def test_a_record_that_breaks_our_own_code_does_not_keep_the_others_waiting(make: Make, path: Path) -> None:
    writer = make()
    writer.add(entry(1, input=2**70))
    writer.guarded(writer._cycle)
    writer.add(entry(2))
    writer.guarded(writer._cycle)
    assert (count(path), writer.statistics().dropped) == (1, 1)


def test_a_clock_that_jumps_deletes_nothing_until_it_holds_for_an_hour(make: Make, path: Path, clock: Clock) -> None:
    writer = make()
    writer.add(entry(1))
    writer.guarded(writer._cycle)
    clock.wall += 1000 * DAY
    clock.pass_by(2 * HOUR)
    writer.guarded(writer._cycle)
    assert count(path) == 1
    clock.wall -= 1000 * DAY
    clock.pass_by(2 * HOUR)
    writer.guarded(writer._cycle)
    assert count(path) == 1
    clock.wall += 1000 * DAY
    for _ in range(2):
        clock.pass_by(2 * HOUR)
        writer.guarded(writer._cycle)
    assert count(path) == 0


def test_what_is_learnt_of_windows_is_written_beside(make: Make, path: Path) -> None:
    points = [[WindowPoint("alice", "5h", NOW, 0.25, NOW + HOUR, "allowed")], []]
    writer = make(points=lambda: points.pop(0), settings=LedgerSettings())
    writer.guarded(writer._cycle)
    writer.guarded(writer._cycle)
    with Ledger(path) as ledger:
        assert [tuple(row)[2:] for row in ledger.rows("SELECT * FROM windows")] == [
            (NOW * 1000, 250_000, (NOW + HOUR) * 1000, "allowed")
        ]


def test_writers_of_several_cycleers_count_each_request_once(make: Make, path: Path) -> None:
    writers = [make() for _ in range(3)]
    go = threading.Barrier(3)

    def work(at: int) -> None:
        with writers[at] as writer:
            go.wait()
            for number in range(at * 1000, at * 1000 + 1000):
                writer.add(entry(number))

    threads = [threading.Thread(target=work, args=(at,)) for at in range(3)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    with Ledger(path) as ledger:
        assert (*ledger.rows("SELECT sum(requests), sum(input) FROM days")[0],) == (3000, 300_000)
        assert ledger.rows("SELECT count(*) FROM requests")[0][0] == 3000


_ENDLESS = """
import sys, time
from pathlib import Path
from ledger.books import PRICES, entry
from tokenferry.ledger import Ledger, LedgerWriter
with LedgerWriter(lambda: Ledger(Path(sys.argv[1])), lambda one: one, lambda: PRICES) as writer:
    for number in range(1_000_000):
        writer.add(entry(number))
        if number % 10 == 0:
            print(number, time.monotonic(), flush=True)
            time.sleep(0.005)
"""


def test_kill_9_loses_a_second_at_most(path: Path) -> None:
    tests = str(Path(__file__).resolve().parent.parent)
    process = subprocess.Popen(
        [sys.executable, "-c", _ENDLESS, str(path)], stdout=subprocess.PIPE, text=True, env={"PYTHONPATH": tests}
    )
    assert process.stdout is not None
    added: list[tuple[int, float]] = []
    while not added or added[-1][1] - added[0][1] < 1.6:
        number, at = process.stdout.readline().split()
        added.append((int(number), float(at)))
    process.send_signal(signal.SIGKILL)
    process.communicate()
    safe = max(number for number, at in added if at <= added[-1][1] - 1)
    assert count(path) >= safe
    with Ledger(path) as ledger:
        rows, hours = (
            ledger.rows(f"SELECT {query}")[0][0] for query in ("count(*) FROM requests", "sum(requests) FROM hours")
        )
        assert rows == hours


def test_costs_have_a_bounded_number_of_labels_and_lose_nothing() -> None:
    costs = CostCounters()
    for number in range(2100):
        route = cost_route(entry(number, model=f"odd-{number}"), UNKNOWN)
        costs.update({(route, f"key-{number}"): 7})
        costs.update({(route, f"key-{number}"): 1})
    assert sum(costs.routes.values()) == sum(costs.keys.values()) == 2100 * 8
    assert (len(costs.routes), len(costs.keys)) == (2001, 2001)
    assert costs.keys["other"] == 100 * 8
