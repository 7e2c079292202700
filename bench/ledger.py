"""The ledger's cost per request, and the time of reports over a million of them."""

import random
import tempfile
import time
from datetime import UTC, datetime, timedelta
from pathlib import Path
from zoneinfo import ZoneInfo

from tokenferry.budgets import Budget, BudgetBook, ModelPrice, RequestSize, Reservation
from tokenferry.gateway import entries_with
from tokenferry.gateway.proxy.budget_answers import budget_lines
from tokenferry.gateway.telemetry.record import RequestRecord, RoutingDecision
from tokenferry.ledger import Dimension, Ledger, LedgerEntry, LedgerWriter, UsageReport, periods
from tokenferry.prices import UNKNOWN, PriceTable, TokenCounts
from tokenferry.routing import BodyFacts, scan
from tokenferry.settings import BudgetSettings
from tokenferry.state import ClientKey
from tokenferry.streaming import TokenUsage

_REQUESTS = 20_000
_ROWS = 1_000_000
_DAYS = 90
_MODELS = ("claude-opus-5", "claude-sonnet-5", "claude-haiku-4-5", "claude-opus-4-6", "claude-sonnet-4-6")


def _record(number: int, at: float, draw: random.Random) -> RequestRecord:
    session = number // 2000 * 40 + number % 40  # forty conversations at a time, of fifty requests each
    usage = TokenUsage(
        *(draw.randrange(2000), draw.randrange(1500), draw.randrange(9000), draw.randrange(150_000)),
        cache_creation_1h=draw.randrange(9000),
        service_tier="standard",
    )
    return RequestRecord(
        *(f"tf_{draw.randbytes(12).hex()}", "POST", "/v1/messages", at),
        client=f"key{session % 20}",
        key_id=f"key_{session % 20}",
        account=f"account{session % 10}",
        provider="anthropic",
        model=_MODELS[session % 5],
        served_model=_MODELS[session % 5],
        status=200,
        upstream_status=200,
        first_byte=0.4,
        duration=3.0,
        bytes_in=20_000,
        bytes_out=4000,
        attempts=1,
        usage=usage,
        session=f"session-{session}",
        decision=RoutingDecision(),
    )


def _prices() -> PriceTable:
    return PriceTable({"anthropic": "https://api.anthropic.com"})


def _written(records: list[RequestRecord], path: Path) -> tuple[float, float]:
    """Seconds of CPU to hand over the records, and to write them."""
    writer: LedgerWriter[RequestRecord] = LedgerWriter(lambda: Ledger(path), entries_with(lambda *_: "plan"), _prices)
    writer.guarded(writer._cycle)  # noqa: SLF001  # the work of its thread
    started = time.process_time()
    for record in records:
        writer.add(record)
    added = time.process_time()
    writer.guarded(writer._cycle)  # noqa: SLF001  # as above
    return added - started, time.process_time() - added


def _writing(folder: Path) -> None:
    """Without threads, so that the loop's share is separate."""
    draw, now = random.Random(1), time.time()
    records = [_record(number, now + number / 1000, draw) for number in range(_REQUESTS)]
    runs = [_written(records, folder / str(run) / "ledger.db") for run in range(5)]
    best_add, best_write = (min(figures) for figures in zip(*runs, strict=True))
    print(f"on the event loop    {best_add / _REQUESTS * 1e6:6.2f} us a request")
    print(f"on the thread        {best_write / _REQUESTS * 1e6:6.2f} us a request")
    usage = {"input_tokens": 9, "output_tokens": 30, "cache_creation_input_tokens": 5, "cache_read_input_tokens": 7}
    usage |= {"cache_creation": {"ephemeral_5m_input_tokens": 0, "ephemeral_1h_input_tokens": 5}}  # type: ignore[dict-item]
    started = time.process_time()
    for _ in range(_REQUESTS):
        TokenUsage().take(usage)
    print(f"reading usage        {(time.process_time() - started) / _REQUESTS * 1e6:6.2f} us a request")


def _budgeting() -> None:
    """The cost of two budgets per request on the event loop: reserve, response headers, settle."""
    book = BudgetBook([Budget.of(BudgetSettings("all", limit)) for limit in ("100000usd/month", "100000usd/day")])
    key, now = ClientKey("key_1", "laptop", "client", 0, ""), time.time()
    counts, price = TokenCounts(9, 30, 5000, 0, 500), ModelPrice(UNKNOWN, is_plan=False)
    facts = scan([b'{"model":"claude-opus-5","max_tokens":32000,"messages":[]}'])
    assert isinstance(facts, BodyFacts)
    book.estimates.learn(RequestSize("key_1", "claude-opus-5", "session", 20_000, None), counts, price)
    book.watch([key], now)
    best = float("inf")
    for _ in range(5):
        spent = 0.0
        for start in range(0, _REQUESTS, 500):
            numbers = [str(number) for number in range(start, start + 500)]
            started = time.process_time()
            for number in numbers:
                size = RequestSize(key.id, "claude-opus-5", "session", 20_000, facts.max_tokens)
                found = book.reserve(key, size, now, number)
                assert isinstance(found, Reservation)
                budget_lines(found)
                book.settle(found, counts)
            spent += time.process_time() - started
            book.exchange({one.key: 0 for one in book.counters()}, {}, 1, numbers)  # the work of the ledger's thread
        best = min(best, spent)
    print(f"budgets, on the loop {best / _REQUESTS * 1e6:6.2f} us a request")


def _fill(ledger: Ledger) -> float:
    draw, now, prices, entry = random.Random(2), time.time(), _prices(), entries_with(lambda *_: "plan")
    first = now - _DAYS * 86_400
    started = time.process_time()
    for start in range(0, _ROWS, 500):
        batch: list[LedgerEntry] = [
            entry(_record(number, first + number * _DAYS * 86_400 / _ROWS, draw))
            for number in range(start, start + 500)
        ]
        ledger.write(batch, prices)
    return time.process_time() - started


def _reading(ledger: Ledger) -> None:
    report, today = UsageReport(ledger), datetime.now(UTC).date()

    def timed(title: str, zone: str, days: int, grain: str, by: tuple[Dimension, ...]) -> None:
        asked = periods(grain, today - timedelta(days=days - 1), today, ZoneInfo(zone))  # type: ignore[arg-type]
        best = float("inf")
        for _ in range(3):
            started = time.perf_counter()
            found = report.rows(asked, by)
            best = min(best, time.perf_counter() - started)
        print(f"{title:34} {best * 1000:8.1f} ms  {len(found):6} rows")

    timed("daily, 30 days", "Europe/Berlin", 30, "daily", ())
    timed("daily by account, 30 days", "Europe/Berlin", 30, "daily", ("account",))
    timed("daily by key, 7 days", "Europe/Berlin", 7, "daily", ("key",))
    timed("daily by model, 90 days, UTC", "UTC", 90, "daily", ("model",))
    timed("daily by model, 90 days", "Europe/Berlin", 90, "daily", ("model",))
    timed("weekly by provider, 90 days", "UTC", 90, "weekly", ("provider",))
    timed("monthly, 12 months", "Europe/Berlin", 365, "monthly", ())
    timed("daily, 30 days, from rows", "Asia/Kolkata", 30, "daily", ())
    timed("sessions, 7 days", "UTC", 7, "monthly", ("session",))
    started = time.perf_counter()
    now = int(time.time() * 1000)
    blocks = report.blocks(now - 3 * 86_400_000, now)
    rows = report.rows(blocks, ("account",))
    print(f"{'blocks, 3 days':34} {(time.perf_counter() - started) * 1000:8.1f} ms  {len(rows):6} rows")


def main() -> None:
    """Print the cost of a request, then of reports over a million rows."""
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        _writing(folder)
        _budgeting()
        path = folder / "million" / "ledger.db"
        with Ledger(path) as ledger:
            spent = _fill(ledger)
            print(f"a million rows       {spent:6.1f} s of CPU, {ledger.size / 1e6:.0f} MB")
            _reading(ledger)


if __name__ == "__main__":
    main()
