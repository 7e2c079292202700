"""What the ledger holds of requests is what the upstream's answers said, read by other code."""

import asyncio
import json
import random
from pathlib import Path
from typing import Any

import pytest

from gateway.rig import Origin, answering, api_key, json_answer, one_account, running_gate
from tokenferry.gateway import UsageLog, entries_with
from tokenferry.gateway.telemetry.record import RequestRecord
from tokenferry.gateway.telemetry.usage_log import ledger_entry
from tokenferry.ledger import Ledger, LedgerWriter, OtherModel
from tokenferry.prices import PriceTable, TokenCounts
from tokenferry.settings import PriceSettings
from tokenferry.streaming import TokenUsage

HEAD = b"HTTP/1.1 200 OK\r\ncontent-type: text/event-stream\r\nconnection: close\r\n\r\n"
RATES = {"input": 3, "output": 15, "cache_read": 0.3, "cache_write": 3.75, "cache_write_1h": 6}


def usage_log(path: Path) -> UsageLog:
    rates = PriceSettings("*", input=3, output=15, cache_read=0.3, cache_write=3.75, cache_write_1h=6)
    return LedgerWriter(lambda: Ledger(path), entries_with(lambda *_: "metered"), lambda: PriceTable({}, [rates]))


def usage(draw: random.Random) -> dict[str, Any]:
    five, hour = draw.randrange(5000), draw.choice([0, draw.randrange(90_000)])
    return {
        "input_tokens": draw.randrange(3000),
        "cache_creation_input_tokens": five + hour,
        "cache_read_input_tokens": draw.randrange(150_000),
        "cache_creation": {"ephemeral_5m_input_tokens": five, "ephemeral_1h_input_tokens": hour},
        "output_tokens": draw.randrange(4000),
    }


def stream(told: dict[str, Any]) -> bytes:
    start = {**told, "output_tokens": 1}
    documents: list[dict[str, Any]] = [
        {"type": "message_start", "message": {"model": "claude-answers", "usage": start}},
        {"type": "content_block_delta", "delta": {"type": "text_delta", "text": 'said "usage": {"output_tokens": 9}'}},
        {"type": "message_delta", "usage": {"output_tokens": told["output_tokens"]}},
        {"type": "message_stop"},
    ]
    events = [f"event: {one['type']}\ndata: {json.dumps(one)}\n\n" for one in documents]
    return HEAD + "".join(events).encode()


@pytest.mark.anyio
async def test_sums_are_those_of_the_recorded_answers(origin: Origin, tmp_path: Path) -> None:
    """Dollars a million: input 3, output 15, cache read 0.30, written for 5 minutes 3.75, for an hour 6."""
    draw, path = random.Random(7), tmp_path / "home" / "ledger.db"  # answers, not secrets
    answers = [usage(draw) for _ in range(40)]
    log = await asyncio.to_thread(usage_log, path)  # its process is read from the disk
    origin.scripts = [
        answering(stream(told)) if number % 2 else json_answer(json.dumps({"content": [], "usage": told}).encode())
        for number, told in enumerate(answers)
    ]
    async with running_gate(one_account(origin.url, api_key()), usage_log=log) as gate:
        for _ in answers:
            assert (await gate.call(body=b'{"model":"claude-sonnet-4-5"}')).status == 200
    await asyncio.to_thread(assert_sums, log, path, answers)


def assert_sums(log: UsageLog, path: Path, answers: list[dict[str, Any]]) -> None:
    with log:
        pass
    split = [answer["cache_creation"] for answer in answers]
    expected = {
        "input": sum(answer["input_tokens"] for answer in answers),
        "output": sum(answer["output_tokens"] for answer in answers),
        "cache_read": sum(answer["cache_read_input_tokens"] for answer in answers),
        "write_5m": sum(one["ephemeral_5m_input_tokens"] for one in split),
        "write_1h": sum(one["ephemeral_1h_input_tokens"] for one in split),
    }
    with Ledger(path) as ledger:
        for table in ("requests", "hours", "days"):
            told = ledger.rows(f"SELECT {', '.join(f'sum({name}) AS {name}' for name in expected)} FROM {table}")[0]
            assert dict(told) == expected
        cost = ledger.rows("SELECT sum(cost_micros) FROM days")[0][0]
    dollars = sum(count * rate for count, rate in zip(expected.values(), RATES.values(), strict=True)) / 1e6
    assert cost / 1e6 == pytest.approx(dollars, abs=len(answers) / 1e6)


def test_a_row_holds_what_the_record_says() -> None:
    other = TokenUsage(5, 6, 7, 8, 7, model="claude-opus-5")
    record = RequestRecord(
        *("tf_1", "POST", "/v1/messages", 5.0, "laptop", "key_1", "alice", "anthropic"),
        model="fast",
        upstream_model="claude-sonnet-5",
        served_model="claude-sonnet-5-20260101",
        status=200,
        usage=TokenUsage(1, 2, 30, 4, 20, speed="fast", is_estimated=True, others=(other, TokenUsage(1))),
    )
    entry = ledger_entry(lambda provider, account: "plan" if account == "alice" else "metered", record)
    assert (entry.model, entry.asked, entry.key_id, entry.key_name) == (
        *("claude-sonnet-5-20260101", "fast"),
        *("key_1", "laptop"),
    )
    assert entry.counts == TokenCounts(1, 2, 4, 10, 20)
    assert entry.others == (OtherModel("claude-opus-5", TokenCounts(5, 6, 8, 0, 7)),)
    assert (entry.billing, entry.speed, entry.is_estimated, entry.is_side) == ("plan", "fast", True, False)


def test_what_an_upstream_calls_its_model_is_not_written_down_unless_it_is_harmless() -> None:
    record = RequestRecord("tf_1", "POST", "/v1/messages/count_tokens", model="fast", served_model="sk-ant-api03-x y")
    record.is_side = True
    entry = ledger_entry(lambda *_: "metered", record)
    assert (entry.model, entry.is_side) == ("fast", True)


def test_an_unknown_split_counts_as_five_minutes_and_unknown_stays_unknown() -> None:
    record = RequestRecord("tf_1", "POST", "/v1/messages", usage=TokenUsage(cache_creation=9))
    entry = ledger_entry(lambda *_: "metered", record)
    assert (entry.cache_write_5m, entry.cache_write_1h, entry.input) == (9, None, None)
