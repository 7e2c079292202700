"""Budgets through the gateway: who is refused in which words, and what each request reserves and settles."""

import asyncio
import json
from collections.abc import AsyncIterator
from datetime import datetime

import pytest
from msgspec.structs import replace

from gateway.rig import (
    Gate,
    Origin,
    Reply,
    Source,
    answering,
    api_key,
    error_of,
    json_answer,
    one_account,
    running_gate,
)
from tokenferry.budgets import Budget, BudgetBook, Counter
from tokenferry.gateway import token_counts
from tokenferry.gateway.telemetry.decision_log import decision_of
from tokenferry.settings import BudgetSettings
from tokenferry.stores import Account

pytestmark = pytest.mark.anyio

BODY = json.dumps({"model": "odd", "max_tokens": 1000, "messages": []}).encode()
USAGE = {"input_tokens": 100_000, "output_tokens": 20_000}
COST = 100_000 * 5 + 20_000 * 25
ANSWER = json_answer(
    json.dumps({"type": "message", "usage": USAGE}).encode(),
    headers=[b"anthropic-ratelimit-unified-5h-utilization: 0.4"],
)
PREFIX = b"anthropic-ratelimit-unified-"


@pytest.fixture
def book() -> BudgetBook:
    return BudgetBook(
        [Budget.of(BudgetSettings("all", "2usd/month", blocked_message="ask Ann"))], to_counts=token_counts
    )


@pytest.fixture
async def gate(source: Source, book: BudgetBook, origin: Origin) -> AsyncIterator[Gate]:
    origin.scripts = [ANSWER]
    async with running_gate(source, budgets=book) as gate:
        yield gate


def only(book: BudgetBook) -> Counter:
    (counter,) = book.counters()
    return counter


def write(book: BudgetBook, spent: int, *replies: Reply) -> None:
    """Have the ledger say what is spent, with these requests among it."""
    written = [reply.all(b"x-tokenferry-request-id")[0].decode() for reply in replies]
    book.exchange({counter.key: spent for counter in book.counters()}, {}, 1, written)


def limits_of(reply: Reply) -> dict[str, str]:
    return {
        name.removeprefix(PREFIX).decode(): value.decode() for name, value in reply.headers if name.startswith(PREFIX)
    }


async def test_an_answer_tells_how_much_is_used_in_place_of_the_accounts_limits(gate: Gate, book: BudgetBook) -> None:
    first = await gate.call(body=BODY)
    reset = str(only(book).end // 1000)
    assert limits_of(first) == {
        "status": "allowed",
        "representative-claim": "overage",
        "overage-status": "allowed",
        "overage-utilization": "0.00",
        "reset": reset,
        "overage-reset": reset,
    }
    write(book, 1_999_000, first)
    last = limits_of(await gate.call(body=BODY))
    assert last["status"] == last["overage-status"] == "allowed_warning"
    assert last["overage-utilization"] == "0.99"
    assert last["overage-surpassed-threshold"] == "0.95"


async def test_a_request_settles_its_usage_once_and_explain_shows_it(gate: Gate, book: BudgetBook) -> None:
    reply = await gate.call(body=BODY)
    record = await gate.records.last()
    assert (only(book).reserved, only(book).unwritten) == (0, COST)
    assert decision_of(record).content["budgets"] == [
        {"subject": "all client keys", "limit": "2usd/month", "reserved": len(BODY) // 4 * 5 + 25_000, "used": COST}
    ]
    write(book, COST, reply)
    assert (only(book).spent, only(book).held) == (COST, 0)


async def test_a_refusal_is_a_billing_error_in_the_operators_words(gate: Gate, book: BudgetBook) -> None:
    await gate.call(body=BODY)
    write(book, 2_000_000)
    reply = await gate.call(body=BODY)
    end = only(book).end // 1000
    assert reply.status == 429
    error = error_of(reply.body)
    assert error["type"] == "billing_error"
    assert error["message"] == (
        f"the budget of $2.00 a month for all client keys is used up until {datetime.fromtimestamp(end):%Y-%m}-01 "  # noqa: DTZ006  # UTC
        "00:00 UTC; ask Ann"
    )
    assert reply.all(b"x-should-retry") == [b"false"]
    (wait,) = reply.all(b"retry-after")
    assert int(wait) > 0
    assert limits_of(reply) == {
        "status": "rejected",
        "overage-utilization": "1",
        "overage-surpassed-threshold": "1",
        "overage-disabled-reason": "org_spend_cap_reached",
        "overage-period": "monthly",
        "reset": str(end),
        "overage-reset": str(end),
    }
    record = await gate.records.last(2)
    assert record.error == "budget_used_up"
    assert record.attempts == 0


async def test_counting_tokens_and_listing_models_are_never_refused(gate: Gate, book: BudgetBook) -> None:
    await gate.call(body=BODY)
    write(book, 2_000_000)
    assert (await gate.call(b"/v1/messages/count_tokens", body=BODY)).status == 200
    assert (await gate.call(b"/v1/models", method=b"GET")).status == 200


async def test_a_client_of_openais_format_gets_errors_in_that_format(gate: Gate, book: BudgetBook) -> None:
    await gate.call(body=BODY)
    write(book, 2_000_000)
    reply = await gate.call(b"/v1/chat/completions", body=BODY)
    assert (reply.status, reply.all(b"x-should-retry")) == (429, [b"false"])
    error = json.loads(reply.body)["error"]
    assert (error["type"], error["code"]) == ("insufficient_quota", "insufficient_quota")
    assert "is used up until" in error["message"]


async def test_a_credential_of_the_clients_own_is_held_to_no_budget(origin: Origin, book: BudgetBook) -> None:
    origin.scripts = [ANSWER]
    provider = replace(one_account(origin.url).providers["fake"], passthrough=True)
    source = Source([provider], [Account("alice", "fake", "api-key")])
    source.results["alice"] = [api_key()]
    async with running_gate(source, budgets=book) as gate:
        await gate.call(body=BODY)
        write(book, 2_000_000)
        assert (await gate.call(body=BODY)).status == 429
        own = await gate.call(headers=[(b"x-tokenferry-key", gate.key), (b"x-api-key", b"sk-of-the-client")], body=BODY)
        assert own.status == 200
        assert limits_of(own) == {"5h-utilization": "0.4"}, "its limits are the client's own"
        record = await gate.records.last(3)
        assert record.account == "(the client's own)"
    assert only(book).reserved == 0


async def test_what_all_reserve_at_once_is_to_be_tried_again(gate: Gate, book: BudgetBook, origin: Origin) -> None:
    write(book, 1_999_999, await gate.call(body=BODY))
    arrived, go_on = asyncio.Event(), asyncio.Event()

    async def slow(*given: object) -> None:
        arrived.set()
        await go_on.wait()
        await ANSWER(*given)  # type: ignore[arg-type]  # as it was called

    origin.scripts = [slow]
    first = asyncio.create_task(gate.call(body=BODY))
    await arrived.wait()
    second = await gate.call(body=BODY)
    assert second.status == 429
    assert error_of(second.body)["type"] == "rate_limit_error"
    assert second.all(b"x-should-retry") == [b"true"]
    assert second.all(b"retry-after") == [b"1"]
    go_on.set()
    assert (await first).status == 200


@pytest.mark.parametrize(
    "script",
    [json_answer(b"{}", status=400), answering(b"")],
    ids=["an error", "no answer"],
)
async def test_a_request_that_fails_gives_back_what_it_reserved(
    gate: Gate, book: BudgetBook, origin: Origin, script: object
) -> None:
    origin.scripts = [script]  # type: ignore[list-item]  # it is a script
    await gate.call(body=BODY)
    await gate.records.last()
    assert only(book).held == 0


async def test_half_an_answer_costs_what_was_sent_for_it(gate: Gate, book: BudgetBook, origin: Origin) -> None:
    origin.scripts = [answering(b"HTTP/1.1 200 OK\r\ncontent-length: 9\r\n\r\n{")]
    await gate.call(body=BODY)
    record = await gate.records.last()
    assert record.usage.is_estimated
    assert (only(book).reserved, only(book).unwritten) == (0, (record.usage.input or 0) * 5)
    assert record.usage.input


async def test_a_client_that_goes_away_gives_back_what_it_reserved(
    gate: Gate, book: BudgetBook, origin: Origin
) -> None:
    arrived, never = asyncio.Event(), asyncio.Event()

    async def silent(*_: object) -> None:
        arrived.set()
        await never.wait()

    origin.scripts = [silent]
    async with gate.open() as (_, writer):
        writer.write(gate.head(length=len(BODY)) + BODY)
        await arrived.wait()
        assert only(book).reserved > 0
    assert (await gate.records.last()).status == 499
    never.set()
    assert only(book).held == 0
