"""Another configuration in the middle of requests: each keeps what it began with, and no key goes to another host."""

import asyncio
from typing import Any

import pytest

from gateway.rig import (
    Gate,
    Origin,
    Source,
    api_key,
    error_of,
    json_answer,
    one_account,
    queued,
    running_gate,
    running_origin,
    token,
)
from tokenferry.credentials import Credential
from tokenferry.gateway import EphemeralKey, Forwarder
from tokenferry.gateway.proxy.exchange import Exchange
from tokenferry.pool import Pool
from tokenferry.providers import Provider
from tokenferry.secret import Secret
from tokenferry.settings import Caps, PoolSettings, RouterSettings
from tokenferry.stores import Account

pytestmark = pytest.mark.anyio


class Waiting(Source):
    """Gives no credential before it is let."""

    def __init__(self, url: str) -> None:
        super().__init__([Provider("fake", "fake", url)], [Account("alice", "fake", "api-key")])
        self.results["alice"] = [api_key()]
        self.is_warm = False
        self.asked, self.may = asyncio.Event(), asyncio.Event()

    async def aresolve(self, name: str | None = None, *, refused: Secret | None = None) -> Credential:
        self.asked.set()
        await self.may.wait()
        return await super().aresolve(name, refused=refused)


def adopt(gate: Gate, source: Source, url: str, *credentials: Credential) -> None:
    """What happens at once when the configuration names another address, and another key for it."""
    source.providers = {"fake": Provider("fake", "fake", url)}
    source.results["alice"] = list(credentials)
    gate.gateway.forwarder = Forwarder(
        source=source,
        settings=RouterSettings(),
        keys=EphemeralKey(),
        upstreams=gate.upstreams,
        pool=gate.gateway.forwarder.pool,
    )


async def check_served_elsewhere(origin: Origin) -> None:
    """Who waits for a credential meanwhile is served where it is for, and holds nothing in the end."""
    source = Waiting(origin.url)
    async with running_origin() as other, running_gate(source) as gate:
        call = asyncio.create_task(gate.call())
        await source.asked.wait()
        adopt(gate, source, other.url, api_key("two"))
        source.may.set()
        assert (await call).status == 200
        assert origin.seen == []
        assert [seen.all(b"x-api-key") for seen in other.seen] == [[b"sk-ant-api03-two"]]
        await gate.records.last()
        assert gate.gateway.forwarder.pool.capacity.busy == {}


async def test_who_waits_for_a_credential_meanwhile_is_served_where_it_is_for(origin: Origin) -> None:
    await check_served_elsewhere(origin)


async def test_an_attempt_that_is_left_open_at_another_address_is_caught(
    origin: Origin, monkeypatch: pytest.MonkeyPatch
) -> None:
    left: list[object] = []

    def reroute(exchange: Exchange) -> None:
        left.append(exchange._runner)
        exchange._forwarder = exchange._state.forwarder
        exchange._forward()

    monkeypatch.setattr(Exchange, "reroute", reroute)
    with pytest.raises(AssertionError, match="'alice': 1"):
        await check_served_elsewhere(origin)


async def test_who_waits_for_a_slot_meanwhile_is_served_where_it_is_for(origin: Origin) -> None:
    source, pool = one_account(origin.url), Pool(PoolSettings(caps=Caps(max_concurrency=1)))
    asked, go = asyncio.Event(), asyncio.Event()

    async def answer(*given: Any) -> None:
        asked.set()
        await go.wait()
        await json_answer()(*given)

    origin.scripts = [answer]
    async with running_origin() as other, running_gate(source, pool=pool) as gate:
        calls = [asyncio.create_task(gate.call())]
        await asked.wait()
        calls.append(asyncio.create_task(gate.call()))
        await queued(pool)
        adopt(gate, source, other.url, api_key("two"))
        go.set()
        assert [(await call).status for call in calls] == [200, 200]
        assert (len(origin.seen), len(other.seen)) == (1, 1)
        await gate.records.last(2)
        assert (pool.capacity.busy, list(pool.waiting)) == ({}, [])


async def test_the_same_address_is_no_other_one(origin: Origin) -> None:
    source = Waiting(origin.url)
    async with running_gate(source) as gate:
        call = asyncio.create_task(gate.call())
        await source.asked.wait()
        adopt(gate, source, origin.url, api_key("two"))
        source.may.set()
        assert (await call).status == 200
        assert len(origin.seen) == 1


async def test_a_renewed_token_does_not_follow_to_the_former_address(origin: Origin) -> None:
    source = one_account(origin.url, token("one"))
    async with running_origin() as other, running_gate(source) as gate:

        async def refuse(*_: object) -> None:
            adopt(gate, source, other.url, token("two"))
            await json_answer(status=401)(*_)  # type: ignore[arg-type]  # the script's own arguments

        origin.scripts = [refuse]
        reply = await gate.call()
        assert reply.status == 503
        assert "send it again" in error_of(reply.body)["message"]
        assert reply.all(b"x-should-retry") == [b"true"]
        assert [seen.all(b"authorization") for seen in origin.seen] == [[b"Bearer sk-ant-oat01-one"]]
        assert other.seen == []
        assert (await gate.call()).status == 200
        assert len(other.seen) == 1


async def test_without_a_relay_that_knows_the_address_nothing_is_sent(origin: Origin) -> None:
    source = one_account(origin.url)
    async with running_gate(source) as gate:
        source.providers = {"fake": Provider("fake", "fake", "http://127.0.0.1:1")}
        assert (await gate.call()).status == 503
        assert origin.seen == []
