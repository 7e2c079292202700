"""Budgets by real ledgers: what rows add up to, and slices between processes that live and die."""

import random
import subprocess
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import cast

import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st
from msgspec.structs import replace

from budgets.books import Key, refused, taken
from effort import effort
from ledger.books import DAY, NOW, PRICES, entries, entry
from tokenferry.budgets import Budget, BudgetBook, BudgetRefusal, RequestSize, Reservation
from tokenferry.errors import StorageFailed
from tokenferry.ledger import BudgetExchange, Ledger, LedgerEntry, LedgerWriter, UsageReport, spent_of
from tokenferry.prices import TokenCounts
from tokenferry.settings import BudgetSettings
from tokenferry.state import Database
from tokenferry.stores import boot_id

KEYS = (Key(), Key("key_2", "ci", {"group": "build"}), Key("key_3", "cd", {"group": "build"}))
MODEL = "claude-opus-5"
SIZE = RequestSize("key_1", MODEL, "", 4000, None)


@dataclass
class Process:
    """A gateway, as far as budgets go: its own connection to the file, its own book."""

    path: Path
    clock: Callable[[], float]
    budgets: tuple[BudgetSettings, ...] = (BudgetSettings("all", "1usd/day"),)
    keys: tuple[Key, ...] = KEYS
    queue: list[LedgerEntry] = field(default_factory=list)

    def __post_init__(self) -> None:
        self.ledger = Ledger(self.path, now=self.clock)
        self.book = BudgetBook(map(Budget.of, self.budgets))
        self.exchange = BudgetExchange(self.book, lambda: self.keys, now=self.clock, monotonic=self.clock)
        self.cycle()

    def cycle(self) -> None:
        """What its ledger's thread does."""
        batch, self.queue = self.queue, []
        if batch:
            self.ledger.write(batch, PRICES)
            self.exchange.learn(batch, PRICES)
        self.exchange.exchange(self.ledger)

    def reserve(self, request_id: str, key: Key = KEYS[0]) -> Reservation | BudgetRefusal:
        found = self.book.reserve(key, replace(SIZE, key_id=key.id), self.clock(), request_id)
        assert found is not None
        return found

    def end(self, found: Reservation, at: float, output: int) -> LedgerEntry:
        """A request has ended; its row waits for the thread."""
        number = int(found.request_id.removeprefix("tf_"))
        row = entry(number, at=at, key_id=found.size.key_id, input=1000, output=output)
        self.book.settle(found, row.counts)
        self.queue.append(row)
        return row


def cost_of(row: LedgerEntry) -> int:
    return PRICES.price(row.provider, (row.model,), row.at).cost(row.counts)


class Clock:
    def __init__(self) -> None:
        self.now = NOW

    def __call__(self) -> float:
        return self.now


def test_after_a_restart_counters_are_what_rows_and_sums_say(path: Path) -> None:
    clock = Clock()
    subjects = ("all", "key:laptop", "group:build")
    with Ledger(path) as ledger:
        ids = ("key_1", "key_2", "key_3", "key_forgotten")
        rows = [entry(number, key_id=key, key_name=f"once-{key}", output=100) for number, key in enumerate(ids)]
        rows += [entry(10, key_id="key_1", at=NOW - DAY), entry(11, billing="plan"), entry(12, billing="own")]
        ledger.write(rows, PRICES)
    one = cost_of(rows[0])
    process = Process(path, clock, tuple(BudgetSettings(subject, "1usd/day") for subject in subjects))
    spent = {counter.budget.settings.subject: counter.spent for counter in process.book.counters()}
    assert spent == {"all": 4 * one, "key:laptop": one, "group:build": 2 * one}
    by_list = Process(path, clock, (BudgetSettings("key:laptop", "1usd/total", counts="list"),))
    assert [counter.spent for counter in by_list.book.counters()] == [
        one + cost_of(rows[4]) + cost_of(rows[5]),
    ]


def test_budgets_are_reported_under_the_present_names_of_keys(path: Path) -> None:
    budgets = (BudgetSettings("key:key_2", "1usd/day"), BudgetSettings("all", "1000tokens/week", per="key"))
    process = Process(path, Clock(), budgets)
    process.queue.append(entry(1, key_id="key_2", input=400, output=100))
    process.cycle()
    states = {(one.subject, one.key): one for one in process.exchange.states()}
    assert set(states) == {("key:ci", ""), ("all", "laptop"), ("all", "ci"), ("all", "cd")}
    assert states["key:ci", ""].used == cost_of(entry(1, input=400, output=100))
    weekly = states["all", "ci"]
    assert (weekly.unit, weekly.period, weekly.limit, weekly.used, weekly.percent) == ("tokens", "week", 1000, 500, 50)


def test_erased_repriced_or_regrouped_rows_are_counted_again(path: Path) -> None:
    process = Process(path, Clock(), (BudgetSettings("group:build", "1usd/day"),))
    process.queue += [entry(1, key_id="key_2"), entry(2, key_id="key_3", session="s-2")]
    process.cycle()
    (counter,) = process.book.counters()
    assert counter.spent == 2 * cost_of(entry(1))
    with Ledger(process.path) as other:
        other.erase(session="s-2")
    process.cycle()
    assert counter.spent == cost_of(entry(1))
    process.keys = (Key(), Key("key_2", "ci"))
    process.clock.now += 2  # type: ignore[attr-defined]  # it is a Clock
    process.cycle()
    assert process.book.counters() == [], "no key is in the group"


ZONES = ("UTC", "Asia/Kathmandu", "America/St_Johns", "Australia/Lord_Howe")


@settings(max_examples=effort(30), deadline=None)
@given(batches=st.lists(st.lists(entries, max_size=6), max_size=4), zone=st.sampled_from(ZONES))
def test_rows_that_come_add_up_to_what_is_read_at_once(
    tmp_path_factory: pytest.TempPathFactory, batches: list[list[LedgerEntry]], zone: str
) -> None:
    """Whatever the offset of the zone: by new rows, from the sums by hour and day, and from each request."""
    limits = ("1usd/day", "1Mtokens/week", "1usd/month", "1usd/total")
    budgets = tuple(BudgetSettings("all", limit, counts="list", timezone=zone) for limit in limits)
    path = tmp_path_factory.mktemp("sums") / "ledger.db"
    process = Process(path, Clock(), budgets)
    seen: dict[tuple[str, int], LedgerEntry] = {}
    for batch in batches:
        process.queue += batch
        for row in batch:
            seen.setdefault((row.request_id, int(row.at * 1000)), row)
        process.cycle()
    counters = process.book.counters()
    assert [one.spent for one in counters] == spent_of(UsageReport(process.ledger), counters, {})
    for one in counters:
        rows = [row for row in seen.values() if one.key.start <= int(row.at * 1000) < one.end]
        tokens = sum(sum((row.counts[0], row.counts[1], row.counts[3], row.counts[4])) for row in rows)
        assert one.spent == (tokens if one.measure == 2 else sum(map(full_cost_of, rows)))
    process.ledger.close()


def full_cost_of(row: LedgerEntry) -> int:
    price = PRICES.price(row.provider, (row.model, row.asked), row.at)
    return price.cost(row.counts, ("speed", row.speed)) if any(row.counts) else 0


def test_a_dead_process_is_forgotten_after_half_a_minute_and_its_rows_are_not(file: Path) -> None:
    clock = Clock()
    dead, living = Process(file, clock), Process(file, clock)
    dead.cycle()
    dead.end(taken(dead.reserve("tf_1")), clock.now, 4000)
    dead.cycle()
    (counter,) = living.book.counters()
    clock.now += 29
    living.cycle()
    assert counter.slice < counter.limit - counter.spent
    clock.now += 5
    living.cycle()
    assert counter.spent > 0
    assert counter.slice == counter.limit - counter.spent


def test_a_process_that_was_killed_is_forgotten_at_the_next_heartbeat(file: Path) -> None:
    clock = Clock()
    with subprocess.Popen(["sleep", "60"]) as killed:
        stat = Path(f"/proc/{killed.pid}/stat").read_text().rpartition(")")[2].split()
        with Ledger(file) as ledger, ledger.transaction() as connection:
            holder = f"{killed.pid} {stat[19]} {boot_id()} x"
            connection.execute("INSERT INTO holders (seen_ms, id) VALUES (?, ?)", (int(NOW * 1000), holder))
        living = Process(file, clock)
        (counter,) = living.book.counters()
        assert len(living.ledger.rows("SELECT id FROM holders")) == 2
        assert counter.slice < counter.limit
        killed.kill()
    clock.now += 5
    living.cycle()
    assert counter.slice == counter.limit


def test_a_process_that_ends_returns_its_slices_at_once(path: Path) -> None:
    clock = Clock()
    one, other = Process(path, clock), Process(path, clock)
    other.exchange.leave(other.ledger)
    one.cycle()
    assert [counter.slice for counter in one.book.counters()] == [1_000_000]


def test_a_threshold_that_is_crossed_is_announced_once_over_all_processes(
    path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    clock = Clock()
    budgets = (BudgetSettings("key:laptop", "1usd/day"), BudgetSettings("all", "1usd/month", mode="warn"))
    processes = [Process(path, clock, budgets) for _ in range(3)]
    for number, tokens in enumerate((100_000, 60_000, 40_000, 10_000)):
        processes[0].queue.append(entry(number, input=tokens, output=0))
        for process in (*processes, *processes):
            process.cycle()
    Process(path, clock, budgets)
    assert [record.getMessage() for record in caplog.records if "budget" in record.getMessage()] == [
        "the budget of $1.00 a day for client key laptop: more than 75 % is used",
        "the budget of $1.00 a month for all client keys: more than 75 % is used",
        "the budget of $1.00 a day for client key laptop is used up; requests are refused",
        "the budget of $1.00 a month for all client keys is used up; it only warns, so requests are still served",
    ]


def test_a_clock_that_jumps_finds_what_was_spent_in_each_period(path: Path) -> None:
    """A day ahead nothing is spent; back again what was spent is known, and so it is after an hour back and forth."""
    clock, steady = Clock(), Clock()
    process = Process(path, clock)
    process.exchange = BudgetExchange(process.book, lambda: process.keys, now=clock, monotonic=steady)
    cost = process.end(taken(process.reserve("tf_1")), NOW, 4000).output or 0

    def spent() -> int:
        for _ in range(2):
            steady.now += 2
            process.cycle()
        found = taken(process.reserve("tf_2"))
        process.book.settle(found, TokenCounts())
        return found.counters[0].spent

    today = spent()
    assert today == 1000 * 5 + cost * 25
    for jump, expected in ((DAY, 0), (-DAY, today), (3600, today), (-3600, today), (40 * DAY, 0), (-40 * DAY, today)):
        clock.now += jump
        assert spent() == expected


@pytest.mark.parametrize("on_error", ["allow", "refuse"])
def test_a_ledger_that_cannot_be_opened_is_waited_for_no_longer_than_it_takes_to_see_that(on_error: str) -> None:
    settings = BudgetSettings("all", "1usd/day", on_error=on_error)  # type: ignore[arg-type]  # it is one of both
    book = BudgetBook([Budget.of(settings)])

    def lacking() -> Ledger:
        raise StorageFailed("the disk is full")

    log = LedgerWriter(lacking, lambda one: one, lambda: PRICES, budgets=BudgetExchange(book, lambda: KEYS))
    with log:
        assert book.is_away
        found = book.reserve(KEYS[0], SIZE, NOW, "tf_1")
        assert isinstance(found, Reservation if on_error == "allow" else BudgetRefusal)


def test_requests_settle_once_while_the_ledgers_thread_writes_and_exchanges(path: Path) -> None:
    """The loop reserves and settles as fast as it can; the thread of a real writer counts, prices and shares slices."""
    book = BudgetBook([Budget.of(BudgetSettings("all", "1000usd/total"))])
    log: LedgerWriter[LedgerEntry] = LedgerWriter(
        lambda: Ledger(path),
        lambda one: one,
        lambda: PRICES,
        budgets=BudgetExchange(book, lambda: KEYS),
        pause=0.001,
    )
    rows = [entry(number, input=1000, output=number % 50) for number in range(3000)]
    with log:
        for row in rows:
            found = taken(book.reserve(KEYS[0], SIZE, NOW, row.request_id))
            book.settle(found, row.counts)
            log.add(row)
    (counter,) = book.counters()
    assert (counter.reserved, counter.unwritten) == (0, 0)
    assert counter.spent == sum(map(cost_of, rows))


@dataclass
class Simulation:
    """Agents at several processes that share a ledger; any process may die at any step."""

    place: Callable[[Clock], Path | Database]
    """Where the ledger is kept, by the clock of all processes."""
    draw: random.Random
    processes: int
    agents: int = 50
    limit: int = 5_000_000

    def __post_init__(self) -> None:
        self.clock = Clock()
        self.started_count = 0
        self.path = cast("Path", self.place(self.clock))
        self.alive = [self.started() for _ in range(self.processes)]
        self.under_way: list[tuple[Process, Reservation]] = []
        self.count = 0
        self.open: list[Reservation] = []
        """What was under way, or not written, when the last request was admitted."""
        self.refusals = 0

    def started(self) -> Process:
        self.started_count += 1
        return Process(self.path, self.clock, (BudgetSettings("all", f"{self.limit // 10**6}usd/day"),))

    def step(self) -> None:
        action = self.draw.choices(("begin", "end", "cycle", "die", "wait"), (30, 24, 12, 1, 3))[0]
        getattr(self, action)()

    def spent(self) -> int:
        with Ledger(self.path) as ledger:
            (counter,) = self.alive[0].book.counters()
            return spent_of(UsageReport(ledger), [counter], {})[0]

    def begin(self) -> None:
        if len(self.under_way) >= self.agents:
            return
        process = self.draw.choice(self.alive)
        self.count += 1
        found = process.reserve(f"tf_{self.count}")
        (counter,) = process.book.counters()
        if isinstance(found, BudgetRefusal):
            self.refusals += found.is_final
            if found.is_final:
                assert self.spent() >= self.limit, "no false refusal: the ledger has all of it"
            else:
                assert counter.held > 0, "with nothing under way a process sends one request"
        else:
            self.under_way.append((process, found))
            unwritten = [one for each in self.alive for one in each.book._unwritten.values()]
            self.open = [*unwritten, *(one for _, one in self.under_way)]

    def end(self) -> None:
        if self.under_way:
            process, found = self.under_way.pop(self.draw.randrange(len(self.under_way)))
            if self.draw.random() < 0.1:
                process.book.settle(found, TokenCounts())
            else:
                process.end(found, self.clock.now, self.draw.choice((1, 100, 4000, 9000)))

    def cycle(self) -> None:
        self.draw.choice(self.alive).cycle()

    def die(self) -> None:
        """Whatever it was doing: what is under way there is lost, and rows that were not written."""
        at = self.draw.randrange(len(self.alive))
        dead = self.alive[at]
        if self.draw.random() < 0.5:  # after its rows were written, and before it knew
            dead.ledger.write(dead.queue, PRICES)
        self.under_way = [one for one in self.under_way if one[0] is not dead]
        dead.ledger.close()
        self.alive[at] = self.started()

    def wait(self) -> None:
        for _ in range(self.draw.choice((1, 10))):
            self.clock.now += 4
            for process in self.alive:
                process.cycle()

    def settle_all(self) -> None:
        while self.under_way:
            self.end()
        for _ in range(3):
            for process in self.alive:
                process.cycle()
        self.clock.now += 40
        for process in self.alive:
            process.cycle()

    @property
    def bound(self) -> int:
        """How much more than the limit may be used.

        It is what the requests that were under way when the last one was admitted used beyond their reservations, and
        for each process one request, that it may send with nothing left of its slice before it learns of the others, or
        a sixteenth of the limit, before it has read anything.
        """
        largest = max(cost_of(entry(0, input=1000, output=9000)), self.limit // 16)
        several = 0 if self.started_count == 1 else self.started_count
        return several * largest + sum(max((one.used or [0])[0] - one.amounts[0], 0) for one in self.open)


def check_budget(simulation: Simulation) -> None:
    for _ in range(300):
        simulation.step()
    simulation.settle_all()
    spent = simulation.spent()
    for process in simulation.alive:
        (counter,) = process.book.counters()
        assert (counter.reserved, counter.unwritten) == (0, 0)
        assert counter.spent == spent
        found = process.reserve("tf_0")
        if spent < simulation.limit:
            process.book.settle(taken(found), TokenCounts())
        else:
            assert refused(found).is_final
        process.ledger.close()
    assert spent <= simulation.limit + simulation.bound


@settings(max_examples=effort(10), deadline=None)
@given(seed=st.integers(0, 2**32), processes=st.integers(1, 4))
@example(seed=2, processes=1)  # a request that used less than it had reserved near the limit
def test_fifty_agents_and_processes_that_die_leave_nothing_reserved(
    tmp_path_factory: pytest.TempPathFactory, seed: int, processes: int
) -> None:
    """Nothing is reserved at the end, no refusal is false, and the overshoot is within its bound."""
    folder = tmp_path_factory.mktemp("budgets")
    check_budget(Simulation(lambda _: folder / "ledger.db", random.Random(seed), processes))


def test_what_rates_ask_for_is_learnt_without_a_budget(path: Path) -> None:
    process = Process(path, Clock(), budgets=())
    size = RequestSize("key_1", MODEL, "s-1", 400_000, 32_000)
    assert process.book.estimates.estimate(size).tokens == 100_000 + 4096
    process.queue.append(entry(1, input=2000, cache_read=98_000, output=70, session="s-1"))
    process.cycle()
    assert process.book.estimates.estimate(size).tokens == 2000 + 70
