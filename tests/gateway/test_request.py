import asyncio

import pytest

from gateway.rig import Gate, Origin, Seen
from tokenferry.gateway._request import Body, Budget

pytestmark = pytest.mark.anyio


def body_of(*chunks: bytes) -> Body:
    body = Body(Budget())
    for chunk in chunks:
        body.add(chunk, 1 << 30)
    return body


async def test_a_body_that_comes_in_crumbs_is_kept_in_pieces() -> None:
    body = body_of(*(b"%02d" % (number % 100) for number in range(50_000)))
    assert body.size == 100_000
    assert b"".join(body.chunks) == b"".join(b"%02d" % (number % 100) for number in range(50_000))
    assert len(body.chunks) < 10


async def test_each_crumb_is_copied_once() -> None:
    body = body_of(b"a", b"b")
    first = body.chunks[0]
    body.add(b"c", 1 << 30)
    assert body.chunks == [b"abc"]
    assert body.chunks[0] is first


async def test_large_chunks_are_kept_as_they_came() -> None:
    large = bytes(100_000)
    body = body_of(large, b"small", large)
    assert body.chunks[0] is body.chunks[2] is large


async def test_a_client_that_leaves_after_a_large_body_stops_the_upstream(gate: Gate, origin: Origin) -> None:
    asked, lost = asyncio.Event(), asyncio.Event()

    async def silent(seen: Seen, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        asked.set()
        await reader.read()
        lost.set()

    origin.scripts = [silent]
    size = 300_000
    async with gate.open() as (_, writer):
        writer.write(gate.head(length=size) + b"{}" + b" " * (size - 2))
        await asked.wait()
    await asyncio.wait_for(lost.wait(), 20)
    record = await gate.records.last()
    assert (record.status, record.error) == (499, "client_gone")
