"""Bills made by hand: what an answer says it used is in the ledger, and out of the budget, to the micro-dollar."""

import asyncio
import json
from pathlib import Path

import pytest

from budgets.books import Key
from gateway.rig import Origin, Script, Source, answering, json_answer, running_gate
from tokenferry.budgets import Budget, BudgetBook
from tokenferry.gateway import UsageLog, entries_with, token_counts
from tokenferry.ledger import BudgetExchange, Ledger, LedgerWriter, UsageReport, spent_of
from tokenferry.prices import PriceTable
from tokenferry.settings import BudgetSettings

pytestmark = pytest.mark.anyio

MODEL = "claude-opus-5"
"""$5 and $25 a million tokens; the cache $0.50, $6.25 for five minutes, $10 for an hour; twice that in fast mode."""
BODY = json.dumps({"model": MODEL, "max_tokens": 1000, "messages": [], "stream": False}).encode()


def answer(**usage: object) -> Script:
    return json_answer(json.dumps({"type": "message", "model": MODEL, "usage": usage}).encode())


def cut_stream(text: str) -> Script:
    """A stream that ends in the middle, after an input of 1,000 tokens and some text."""
    usage = {"input_tokens": 1000, "output_tokens": 1}
    events = (
        ("message_start", {"type": "message_start", "message": {"model": MODEL, "usage": usage}}),
        ("content_block_delta", {"type": "content_block_delta", "delta": {"type": "text_delta", "text": text}}),
    )
    events_text = "".join(f"event: {name}\ndata: {json.dumps(data)}\n\n" for name, data in events)
    return answering(b"HTTP/1.1 200 OK\r\ncontent-type: text/event-stream\r\n\r\n" + events_text.encode())


@pytest.mark.parametrize(
    ("script", "micros"),
    [
        pytest.param(
            answer(
                input_tokens=100,
                output_tokens=200,
                cache_read_input_tokens=40_000,
                cache_creation_input_tokens=3000,
                cache_creation={"ephemeral_5m_input_tokens": 1000, "ephemeral_1h_input_tokens": 2000},
            ),
            500 + 5000 + 20_000 + 6250 + 20_000,
            id="cache writes for five minutes and an hour",
        ),
        pytest.param(answer(input_tokens=1000, output_tokens=1000, speed="fast"), 2 * (5000 + 25_000), id="fast mode"),
        pytest.param(
            answer(input_tokens=0, output_tokens=10, server_tool_use={"web_search_requests": 3}),
            250 + 3 * 10_000,
            id="web searches",
        ),
        pytest.param(
            answer(
                input_tokens=10,
                output_tokens=5,
                iterations=[
                    {"type": "compaction", "input_tokens": 1000, "output_tokens": 100},
                    {"type": "message", "input_tokens": 10, "output_tokens": 5},
                ],
            ),
            1010 * 5 + 105 * 25,
            id="an iteration that the sums leave out",
        ),
        pytest.param(answer(input_tokens=0, output_tokens=0), 0, id="an explicit zero"),
        pytest.param(json_answer(b"{}", status=529), 0, id="an error"),
        pytest.param(cut_stream("word" * 100), 5000 + 100 * 25, id="a stream that was cut, at four characters a token"),
    ],
)
async def test_a_bill_made_by_hand_is_what_ledger_and_budget_say(
    source: Source, origin: Origin, tmp_path: Path, script: Script, micros: int
) -> None:
    path, key = tmp_path / "ledger.db", Key("key_one_off", "one-off")
    book = BudgetBook([Budget.of(BudgetSettings("all", "1usd/day"))], to_counts=token_counts)
    origin.scripts = [script]
    log: UsageLog = LedgerWriter(
        lambda: Ledger(path),
        entries_with(lambda *_: "metered"),
        lambda: PriceTable({"fake": "https://api.anthropic.com"}),
        budgets=BudgetExchange(book, lambda: (key,)),
    )
    await asyncio.to_thread(log.start)
    async with running_gate(source, usage_log=log, budgets=book) as gate:
        await gate.call(body=BODY)
        await gate.records.last()
    await asyncio.to_thread(log.stop)
    (counter,) = book.counters()

    def read() -> list[int]:
        with Ledger(path) as ledger:
            return spent_of(UsageReport(ledger), [counter], {})

    assert await asyncio.to_thread(read) == [micros]
    assert (counter.spent, counter.reserved, counter.unwritten) == (micros, 0, 0)
