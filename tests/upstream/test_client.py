import traceback
from typing import TYPE_CHECKING

import pytest

from tokenferry.upstream import AnswerTimeout, BadRequest, ConnectError, Timeouts, UpstreamClient, UpstreamClosed
from upstream.responses import fetch

if TYPE_CHECKING:
    from upstream.conftest import Client, Peer, StartPeer

pytestmark = pytest.mark.anyio

OK = b"HTTP/1.1 200 OK\r\ncontent-length: 5\r\n\r\nhello"
SECRET = b"sk-ant-api03-very-secret"


async def test_sends_host_and_path_prefix_of_its_origin(peer: "Peer", client: "Client") -> None:
    upstream = UpstreamClient(peer.origin + "/base/")
    record = client.get(upstream)
    request = await (await peer.link()).answer()
    assert request.startswith(b"GET /base/v1/messages HTTP/1.1\r\nhost: %b\r\n" % upstream.host.encode())
    assert upstream.origin == peer.origin + "/base"
    await record.over.wait()
    await upstream.aclose()


async def test_reaches_peers_over_ipv6(start_peer: "StartPeer", client: "Client") -> None:
    peer = await start_peer(host="::1")
    upstream = UpstreamClient(peer.origin)
    record = client.get(upstream)
    request = await (await peer.link()).answer()
    assert f"host: [::1]:{peer.port}\r\n".encode() in request
    await record.over.wait()
    assert record.ends == 1
    await upstream.aclose()


async def test_the_connection_used_last_is_used_next(peer: "Peer", upstream: UpstreamClient, client: "Client") -> None:
    links = await client.warm(upstream, peer, 3)
    for _ in range(2):
        record = client.get(upstream)
        await links[-1].answer(OK)
        await record.over.wait()
    assert peer.accepted == 3


async def test_a_connection_about_to_be_lost_is_not_used(
    peer: "Peer", upstream: UpstreamClient, client: "Client"
) -> None:
    await client.warm(upstream, peer)
    upstream._idle[0].drop()
    record = client.get(upstream)
    await (await peer.link()).answer(OK)
    await record.over.wait()
    assert record.ends == 1
    assert upstream.statistics().retried == 0


async def test_keeps_no_more_idle_connections_than_allowed(peer: "Peer", client: "Client") -> None:
    upstream = UpstreamClient(peer.origin, max_idle=1)
    records = [client.get(upstream) for _ in range(3)]
    for _ in records:
        await (await peer.link()).answer(OK)
    for record in records:
        await record.over.wait()
    assert upstream.statistics().idle == 1
    await upstream.aclose()


async def test_closes_connections_idle_for_too_long(peer: "Peer", client: "Client") -> None:
    async with client.hurried(peer, keep_idle=0.02) as upstream:
        record = client.get(upstream)
        link = await peer.link()
        await link.answer(OK)
        await record.over.wait()
        await link.gone()
        assert upstream.statistics().idle == 0


async def test_opens_no_more_connections_than_allowed_and_serves_in_turn(peer: "Peer", client: "Client") -> None:
    upstream = UpstreamClient(peer.origin, max_connections=2)
    records = [client.record() for _ in range(6)]
    for i, record in enumerate(records):
        upstream.send("GET", b"/%d" % i, [], b"", record)
    first, second = await peer.link(), await peer.link()
    await first.request()
    await second.request()
    assert (upstream.statistics().in_flight, upstream.statistics().queued) == (6, 4)
    for i in range(2, 6):
        await first.send(OK)
        assert (await first.request()).startswith(b"GET /%d " % i)
    for link in (first, second):
        await link.send(OK)
    for record in records:
        await record.over.wait()
    assert sum(record.ends for record in records) == 6
    assert (peer.accepted, upstream.statistics().queued) == (2, 0)
    await upstream.aclose()


async def test_a_turn_passes_to_the_next_when_a_connection_is_lost(peer: "Peer", client: "Client") -> None:
    upstream = UpstreamClient(peer.origin, max_connections=1)
    records = [client.get(upstream) for _ in range(3)]
    link = await peer.link()
    await link.answer(b"HTTP/1.1 200 OK\r\ncontent-length: 5\r\nconnection: close\r\n\r\nhello")
    link = await peer.link()
    await link.request()
    link.reset()
    await (await peer.link()).answer(OK)
    for record in records:
        await record.over.wait()
    assert [(record.ends, len(record.failures)) for record in records] == [(1, 0), (0, 1), (1, 0)]
    assert peer.accepted == 3
    await upstream.aclose()


async def test_a_turn_passes_to_the_next_when_a_dial_is_given_up(peer: "Peer", client: "Client") -> None:
    upstream = UpstreamClient(peer.origin, max_connections=1)
    dialling = upstream.send("GET", b"/a", [], b"", client.record())
    waiting = upstream.send("GET", b"/b", [], b"", client.record())
    last = client.get(upstream)
    waiting.abort()
    dialling.abort()
    assert upstream.statistics().queued == 1
    link = await peer.link()
    while not await link.reader.read(1):  # the connection of the dial that was given up, if it came that far
        link = await peer.link()
    await link.answer(OK)
    await last.over.wait()
    assert last.ends == 1
    await upstream.aclose()


async def test_a_call_that_waits_too_long_for_a_turn_fails(peer: "Peer", client: "Client") -> None:
    upstream = UpstreamClient(peer.origin, max_connections=1, timeouts=Timeouts(connect=0.5))
    busy = client.get(upstream)
    link = await peer.link()
    await link.request()
    record = client.get(upstream)
    await record.over.wait()
    (failure,) = record.failures
    assert isinstance(failure, AnswerTimeout)
    assert (failure.phase, failure.sent) == ("busy", False)
    assert str(failure) == f"All connections to {upstream.host} were busy for 0.5 s"
    await link.send(OK)
    await busy.over.wait()
    assert busy.ends == 1
    await upstream.aclose()


async def test_a_request_is_sent_again_no_more_than_once_though_it_waits_for_a_turn(
    peer: "Peer", client: "Client"
) -> None:
    upstream = UpstreamClient(peer.origin, max_connections=1)
    (stale,) = await client.warm(upstream, peer)
    first, second = client.get(upstream), client.get(upstream)
    await stale.request()
    stale.close()
    link = await peer.link()
    served = await link.answer(OK)
    link = await peer.link()  # the one before may be as stale as the first was
    await link.request()
    link.close()
    await first.over.wait()
    await second.over.wait()
    assert served
    assert sorted((record.ends, len(record.failures)) for record in (first, second)) == [(0, 1), (1, 0)]
    assert upstream.statistics().retried == 1
    await upstream.aclose()


async def test_a_name_that_does_not_resolve_is_a_failed_connection(client: "Client") -> None:
    upstream = UpstreamClient("https://nobody.invalid")
    record = client.get(upstream)
    await record.over.wait()
    assert isinstance(record.failures[0], ConnectError)
    assert "nobody.invalid" in str(record.failures[0])
    await upstream.aclose()


async def test_counts_what_it_does(peer: "Peer", upstream: UpstreamClient, client: "Client") -> None:
    first = client.get(upstream)
    link = await peer.link()
    assert upstream.statistics().in_flight == 1
    await link.answer(OK)
    await first.over.wait()
    second = client.get(upstream)
    await link.answer(b"HTTP/1.1 101 No\r\n\r\n")
    await second.over.wait()
    statistics = upstream.statistics()
    assert (statistics.dialled, statistics.reused, statistics.retried) == (1, 1, 0)
    assert (statistics.idle, statistics.in_flight) == (0, 0)
    assert statistics.failures == {"bad-answer": 1}


async def test_aclose_ends_what_is_under_way_and_refuses_what_comes(peer: "Peer", client: "Client") -> None:
    upstream = UpstreamClient(peer.origin)
    links = await client.warm(upstream, peer, 2)
    records = [client.get(upstream) for _ in range(3)]  # two on these connections, one dialling
    await links[0].request()
    await upstream.aclose()
    assert [type(record.failures[0]) for record in records] == [UpstreamClosed] * 3
    assert [record.failures[0].sent for record in records] == [True, True, False]
    assert upstream.statistics().open == 0
    for link in links:
        await link.gone()
    with pytest.raises(UpstreamClosed):
        client.get(upstream)
    await upstream.aclose()


@pytest.mark.parametrize("headers", [[(b"x", SECRET + b"\r\n")], [(b"x", SECRET), (b"connection", b"close")]])
async def test_a_refused_request_shows_no_credential_even_in_the_frames_of_its_traceback(
    upstream: UpstreamClient, client: "Client", headers: list[tuple[bytes, bytes]]
) -> None:
    with pytest.raises(BadRequest) as caught:
        await fetch(upstream, "GET", b"/", headers)
    assert_hidden(caught.value)
    with pytest.raises(BadRequest) as caught:
        upstream.send("GET", b"/", headers, b"", client.record())
    assert_hidden(caught.value)
    assert upstream.statistics().in_flight == 0


async def test_a_failed_request_shows_no_credential_in_the_frames_of_its_traceback(peer: "Peer") -> None:
    upstream = UpstreamClient(peer.origin)
    await peer.stop()
    with pytest.raises(ConnectError) as caught:
        await fetch(upstream, "GET", b"/", [(b"authorization", SECRET)])
    assert_hidden(caught.value)
    await upstream.aclose()


def assert_hidden(error: BaseException) -> None:
    assert SECRET.decode() not in repr(error) + str(error)
    for frame, _ in traceback.walk_tb(error.__traceback__):
        if "tests" not in frame.f_code.co_filename:
            assert SECRET.decode() not in repr(frame.f_locals)


async def test_timeouts_are_those_of_the_relay_by_default() -> None:
    assert Timeouts() == Timeouts(connect=10, first_byte=600, first_byte_stream=120, idle=300, keep_idle=60)
