import asyncio
from typing import TYPE_CHECKING

import pytest

from tokenferry.upstream import AnswerCut, ConnectError, UpstreamClient, UpstreamClosed
from upstream.responses import BUFFER_LIMIT, fetch

if TYPE_CHECKING:
    from upstream.conftest import Link, Peer

pytestmark = pytest.mark.anyio

ONE_READ = 256 * 1024
ENDLESS = b"HTTP/1.1 200 OK\r\ncontent-length: 1000000000\r\n\r\n"


async def serve(peer: "Peer", *pieces: bytes) -> "Link":
    link = await peer.link()
    await link.answer(*pieces)
    return link


async def test_gives_head_and_body(peer: "Peer", upstream: UpstreamClient) -> None:
    serving = asyncio.ensure_future(
        serve(peer, b"HTTP/1.1 200 OK\r\nX-A: b\r\ncontent-length: 5\r\n\r\n", b"he", b"llo")
    )
    response = await fetch(upstream, "POST", b"/", [], b"{}", stream=True)
    assert response.status == 200
    assert response.headers == [(b"x-a", b"b"), (b"content-length", b"5")]
    assert b"".join([chunk async for chunk in response.body()]) == b"hello"
    assert [chunk async for chunk in response.body()] == []
    response.abort()
    await serving
    assert upstream.statistics().idle == 1


async def test_each_event_is_given_as_it_comes(peer: "Peer", upstream: UpstreamClient) -> None:
    request = asyncio.ensure_future(fetch(upstream, "GET", b"/", []))
    link = await serve(peer, b"HTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\n\r\n")
    response = await request
    body = response.body()
    for event in (b"event: ping\n\n", b"event: message_stop\n\n"):
        await link.send(b"%x\r\n%b\r\n" % (len(event), event))
        assert await anext(body) == event
    await link.send(b"0\r\n\r\n")
    with pytest.raises(StopAsyncIteration):
        await anext(body)


async def test_a_cut_is_raised_after_what_came_before_it(peer: "Peer", upstream: UpstreamClient) -> None:
    request = asyncio.ensure_future(fetch(upstream, "GET", b"/", []))
    link = await serve(peer, b"HTTP/1.1 200 OK\r\ncontent-length: 9\r\n\r\nhello")
    link.close()
    response = await request
    assert await anext(response.body()) == b"hello"
    with pytest.raises(AnswerCut) as caught:
        await anext(response.body())
    assert caught.value.after_head


async def test_failures_before_the_head_are_raised_by_the_request(peer: "Peer") -> None:
    upstream = UpstreamClient(peer.origin)
    await peer.stop()
    with pytest.raises(ConnectError):
        await fetch(upstream, "GET", b"/", [])
    await upstream.aclose()


async def test_a_slow_reader_stalls_the_peer_and_costs_bounded_memory(way: "tuple[Peer, UpstreamClient]") -> None:
    peer, upstream = way
    request = asyncio.ensure_future(fetch(upstream, "GET", b"/", []))
    link = await serve(peer, ENDLESS)
    response = await request
    block = bytes(1 << 20)
    blocks = 0

    async def flood() -> None:
        nonlocal blocks
        while True:
            await link.send(block)
            blocks += 1

    flooding = asyncio.ensure_future(flood())
    before = -1
    while blocks != before:  # until the kernel's buffers are full and nothing moves any more
        before = blocks
        await asyncio.wait([flooding], timeout=0.1)
    assert not flooding.done()
    assert BUFFER_LIMIT < response._buffered <= BUFFER_LIMIT + ONE_READ
    stalled_at = blocks
    read = 0
    while blocks < stalled_at + 20:
        read += len(await anext(response.body()))
        assert response._buffered <= BUFFER_LIMIT + ONE_READ
    assert read > 20 * len(block) // 2
    flooding.cancel()
    response.abort()


async def test_all_bytes_arrive_in_order_through_pauses(peer: "Peer", upstream: UpstreamClient) -> None:
    whole = bytes(range(256)) * 16384
    request = asyncio.ensure_future(fetch(upstream, "GET", b"/", []))
    link = await peer.link()
    serving = asyncio.ensure_future(link.answer(b"HTTP/1.1 200 OK\r\ncontent-length: %d\r\n\r\n" % len(whole), whole))
    response = await request
    await asyncio.sleep(0)
    assert await response.read(len(whole)) == whole
    await serving
    assert upstream.statistics().idle == 1


@pytest.mark.parametrize("framing", [b"content-length: 4194304\r\n", b""])
async def test_a_peer_that_leaves_while_reading_is_paused_takes_nothing_with_it(
    way: "tuple[Peer, UpstreamClient]", framing: bytes
) -> None:
    peer, upstream = way
    whole = bytes(range(256)) * 16384
    requesting = asyncio.ensure_future(fetch(upstream, "GET", b"/", []))
    link = await peer.link()
    serving = asyncio.ensure_future(link.answer(b"HTTP/1.1 200 OK\r\n%b\r\n" % framing + whole))
    response = await requesting
    got = b""
    while not serving.done():
        got += await anext(response.body())
        await asyncio.sleep(0)
    link.close()
    for _ in range(10):  # let the end of the stream arrive while the reader is away
        await asyncio.sleep(0)
    got += await response.read(len(whole))
    assert got == whole


async def test_a_connection_paused_at_the_end_of_an_answer_is_of_use_again(
    peer: "Peer", upstream: UpstreamClient
) -> None:
    whole = bytes(BUFFER_LIMIT + 1)
    for _ in range(2):
        request = asyncio.ensure_future(fetch(upstream, "GET", b"/", []))
        if not peer.accepted:
            link = await peer.link()
        await link.answer(b"HTTP/1.1 200 OK\r\ncontent-length: %d\r\n\r\n" % len(whole) + whole)
        assert len(await (await request).read(len(whole))) == len(whole)
    assert peer.accepted == 1


async def test_cancelling_the_request_closes_the_connection(peer: "Peer", upstream: UpstreamClient) -> None:
    request = asyncio.ensure_future(fetch(upstream, "GET", b"/", []))
    link = await peer.link()
    await link.request()
    request.cancel()
    with pytest.raises(asyncio.CancelledError):
        await request
    await link.gone()
    assert upstream.statistics().in_flight == 0


async def test_abort_closes_the_connection_and_ends_a_waiting_read(peer: "Peer", upstream: UpstreamClient) -> None:
    request = asyncio.ensure_future(fetch(upstream, "GET", b"/", []))
    link = await serve(peer, ENDLESS)
    response = await request
    reading = asyncio.ensure_future(anext(response.body()))
    await asyncio.sleep(0)
    response.abort()
    with pytest.raises(UpstreamClosed):
        await reading
    await link.gone()
    assert dict(upstream.statistics().failures) == {}
