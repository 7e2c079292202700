import asyncio
import socket
from typing import TYPE_CHECKING

import pytest

from tokenferry.upstream import ConnectError, UpstreamClient
from tokenferry.upstream import _connect as _connect_module
from tokenferry.upstream._happy_eyeballs import Address, resolve

if TYPE_CHECKING:
    from upstream.conftest import Client, Peer

pytestmark = pytest.mark.anyio


async def test_many_at_a_time_look_a_name_up_once(
    tls_peer: "Peer", tls_upstream: UpstreamClient, client: "Client", monkeypatch: pytest.MonkeyPatch
) -> None:
    lookups = 0

    async def counted(host: str, port: int) -> list[Address]:
        nonlocal lookups
        lookups += 1
        return await resolve(host, port)

    monkeypatch.setattr(_connect_module, "resolve", counted)
    records = [client.get(tls_upstream) for _ in range(10)]
    for _ in records:
        await (await tls_peer.link()).answer()
    for record in records:
        await record.over.wait()
        assert record.ends == 1
    assert lookups == 1
    client.get(tls_upstream)
    for _ in range(10):
        client.get(tls_upstream)
    await tls_peer.link()
    assert lookups == 2


async def test_a_failed_lookup_reaches_all_waiters_and_is_forgotten(
    client: "Client", monkeypatch: pytest.MonkeyPatch
) -> None:
    started, gate = asyncio.Event(), asyncio.Event()

    async def fails(host: str, port: int) -> list[Address]:
        started.set()
        await gate.wait()
        raise socket.gaierror(socket.EAI_NONAME, "Name or service not known")

    monkeypatch.setattr(_connect_module, "resolve", fails)
    upstream = UpstreamClient("https://nobody.invalid")
    impatient = client.record()
    exchange = upstream.send("GET", b"/", [], b"", impatient)
    records = [client.get(upstream) for _ in range(3)]
    await started.wait()
    exchange.abort()
    gate.set()
    for record in records:
        await record.over.wait()
        assert isinstance(record.failures[0], ConnectError)
        assert "Name or service not known" in str(record.failures[0])
    assert not impatient.over.is_set()
    assert upstream._connector._lookup is None
    await upstream.aclose()


async def test_closing_ends_a_lookup_without_a_word(client: "Client", monkeypatch: pytest.MonkeyPatch) -> None:
    started, cancelled = asyncio.Event(), asyncio.Event()

    async def hangs(host: str, port: int) -> list[Address]:
        started.set()
        try:
            await asyncio.Event().wait()
        finally:
            cancelled.set()
        return []

    monkeypatch.setattr(_connect_module, "resolve", hangs)
    upstream = UpstreamClient("https://nobody.invalid")
    record = client.get(upstream)
    await started.wait()
    await upstream.aclose()
    await cancelled.wait()
    assert record.failures[0].kind == "closed"
