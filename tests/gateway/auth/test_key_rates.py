"""What a client key may ask for a minute, and at a time."""

import asyncio
import json

import pytest
from msgspec.structs import replace

from gateway.rig import Origin, Seen, error_of, json_answer, one_account, queued, running_gate
from tokenferry.gateway import ERROR_MARK
from tokenferry.gateway.auth.key_rates import KeyRates
from tokenferry.gateway.http.errors import GatewayError
from tokenferry.pool import Pool
from tokenferry.rates import Share
from tokenferry.settings import Caps, PoolSettings
from tokenferry.state import ClientKey, Rights, key_caps

pytestmark = pytest.mark.anyio


class Clock:
    value = 1000.0

    def __call__(self) -> float:
        return self.value


def key(**caps: int) -> ClientKey:
    return ClientKey("key_1", "laptop", "client", 0, "", caps=key_caps(**caps))


def refusal(rates: KeyRates, one: ClientKey, tokens: int = 0) -> GatewayError:
    with pytest.raises(GatewayError) as caught:
        rates.admit(one, tokens)
    return caught.value


def test_a_minutes_requests_may_come_at_once_and_the_next_gets_its_time() -> None:
    clock = Clock()
    rates, one = KeyRates(clock), key(requests_per_minute=30)
    for _ in range(30):
        rates.settle(rates.admit(one, 0), 0)
    refused = refusal(rates, one)
    assert (refused.status, refused.kind, refused.cause, refused.retry_after) == (
        *(429, "rate_limit_error", "key_rate_limited"),
        2,
    )
    assert refused.should_retry
    assert refused.message == (
        "client key laptop is limited to 30 requests a minute; try again in 2 s, or "
        "raise the limit with: tokenferry key set laptop"
    )
    clock.value += 2
    rates.admit(one, 0)


def test_no_wait_is_longer_than_clients_accept() -> None:
    rates, one = KeyRates(Clock()), key(tokens_per_minute=1000)
    rates.settle(rates.admit(one, 100), 500_000)
    assert refusal(rates, one, 100).retry_after == 60


def test_a_raised_limit_counts_at_once_and_other_workers_have_their_part() -> None:
    rates = KeyRates(Clock())
    rates.admit(key(max_concurrency=1), 0)
    assert refusal(rates, key(max_concurrency=1)).retry_after == 1
    rates.admit(key(max_concurrency=4), 0)
    rates.share_with(Share(1, 2))
    assert "4 requests at a time" in refusal(rates, key(max_concurrency=4)).message


class Ring:
    """One key with such caps."""

    def __init__(self, **caps: int) -> None:
        self.key = key(**caps)

    def verify(self, presented: str) -> ClientKey | None:
        return self.key if presented == "tfk" else None

    def expired(self, presented: str) -> ClientKey | None:
        return None

    def is_away(self) -> bool:
        return False

    def is_sole(self) -> bool:
        return True


def body(size: int = 0, max_tokens: int = 100) -> bytes:
    return json.dumps(
        {"model": "claude-sonnet-4-5", "max_tokens": max_tokens, "messages": [], "pad": "x" * size}
    ).encode()


def usage(**counts: int) -> bytes:
    return json.dumps({"type": "message", "usage": counts}).encode()


async def test_tokens_are_settled_by_the_answer_and_cache_reads_cost_nothing(origin: Origin) -> None:
    told = usage(input_tokens=500, cache_creation_input_tokens=200, cache_read_input_tokens=10**6, output_tokens=300)
    origin.scripts = [json_answer(told)] * 20
    ring = Ring(tokens_per_minute=10_000)
    async with running_gate(one_account(origin.url), keys=ring, key="tfk") as gate:
        statuses = [(await gate.call(body=body(4000))).status for _ in range(9)]
        assert statuses == [200] * 9, "9,000 tokens were used"
        refused = await gate.call(body=body(8000, max_tokens=4000))
        assert (refused.status, refused.all(ERROR_MARK)) == (429, [b"key_rate_limited"])
        assert error_of(refused.body)["type"] == "rate_limit_error"
        assert refused.all(b"x-should-retry") == [b"true"]
        assert 0 < int(refused.all(b"retry-after")[0]) <= 60
        assert (await gate.call(b"/v1/messages/count_tokens", None, body())).status == 200
        assert len(origin.seen) == 10
        await gate.records.last(11)
        (record,) = [one for one in gate.records.all if one.error]
        assert record.error == "key_rate_limited"
        assert record.decision is not None
        assert record.decision.message == error_of(refused.body)["message"]


async def test_requests_of_no_known_price_count_too_and_those_that_use_nothing_never(origin: Origin) -> None:
    ring = Ring(requests_per_minute=2, tokens_per_minute=100)
    ring.key = replace(ring.key, rights=Rights(pin="alice"))
    async with running_gate(one_account(origin.url), keys=ring, key="tfk") as gate:
        found = [await gate.call(b"/v1/files", None, b"", method=b"GET") for _ in range(3)]
        assert [one.all(ERROR_MARK) == [b"key_rate_limited"] for one in found] == [False, False, True]
        assert (await gate.call(b"/v1/messages/count_tokens", None, body())).status == 200
        assert (await gate.call(b"/v1/models", None, b"", method=b"GET")).status == 200


async def test_a_place_is_free_again_however_a_request_ends(origin: Origin) -> None:
    go = asyncio.Event()
    asked = asyncio.Event()

    async def waits(seen: Seen, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        asked.set()
        await go.wait()
        await json_answer()(seen, reader, writer)

    origin.scripts = [waits, json_answer(status=500), json_answer(), json_answer()]
    async with running_gate(one_account(origin.url), keys=Ring(max_concurrency=1), key="tfk") as gate:
        async with gate.open() as (_, writer):
            writer.write(gate.head(length=2) + b"{}")
            await asked.wait()
            assert (await gate.call()).all(ERROR_MARK) == [b"key_rate_limited"]
        await gate.records.last(2)
        go.set()
        assert (await gate.call()).status == 500
        assert (await gate.call(body=b"no json")).status == 400
        assert (await gate.call()).status == 200


async def test_an_upstreams_tokens_make_the_next_request_wait_and_its_answer_lets_it_go(origin: Origin) -> None:
    go, asked = asyncio.Event(), asyncio.Event()

    async def waits(seen: Seen, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        asked.set()
        await go.wait()
        await json_answer(usage(input_tokens=5, output_tokens=5))(seen, reader, writer)

    origin.scripts = [waits, json_answer(usage(input_tokens=5, output_tokens=5))]
    pool = Pool(PoolSettings(caps=Caps(tokens_per_minute=6000)))
    source = one_account(origin.url)
    async with running_gate(source, pool=pool) as gate, asyncio.TaskGroup() as tasks:
        first = tasks.create_task(gate.call(body=body(8000, max_tokens=4000)))
        await asked.wait()
        second = tasks.create_task(gate.call(body=body(8000, max_tokens=4000)))
        await queued(pool)
        assert len(origin.seen) == 1
        go.set()
        assert [(await one).status for one in (first, second)] == [200, 200]
    assert not pool.waiting
