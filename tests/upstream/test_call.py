import asyncio
from typing import TYPE_CHECKING

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tokenferry.upstream import AnswerCut, AnswerTimeout, ConnectError, ResponseHead, UpstreamClient, UpstreamError
from tokenferry.upstream._call import Call, stale_within
from tokenferry.upstream._connection import Connection

if TYPE_CHECKING:
    from upstream.conftest import Client, Peer

pytestmark = pytest.mark.anyio

OK = b"HTTP/1.1 200 OK\r\ncontent-length: 5\r\n\r\nhello"
PART = b"HTTP/1.1 200 OK\r\ncontent-length: 1000\r\n\r\nhello"


@pytest.mark.parametrize("end", ["close", "reset"])
async def test_a_stale_connection_is_replaced_once_and_the_request_sent_again_whole(
    peer: "Peer", upstream: UpstreamClient, client: "Client", end: str
) -> None:
    (stale,) = await client.warm(upstream, peer)
    record = client.record()
    upstream.send("POST", b"/v1/messages", [(b"x-a", b"b")], [b"he", memoryview(b"llo")], record)
    first = await stale.request()
    getattr(stale, end)()
    fresh = await peer.link()
    assert await fresh.answer() == first
    await record.over.wait()
    assert (record.ends, record.failures) == (1, [])
    assert upstream.statistics().retried == 1


async def test_a_request_is_sent_again_no_more_than_once(
    peer: "Peer", upstream: UpstreamClient, client: "Client"
) -> None:
    (stale,) = await client.warm(upstream, peer)
    record = client.get(upstream)
    await stale.request()
    stale.close()
    fresh = await peer.link()
    await fresh.request()
    fresh.close()
    await record.over.wait()
    assert isinstance(record.failures[0], AnswerCut)
    assert record.failures[0].sent
    assert peer.accepted == 2


async def test_the_second_sending_passes_other_idle_connections_by(
    peer: "Peer", upstream: UpstreamClient, client: "Client"
) -> None:
    _, stale = await client.warm(upstream, peer, 2)
    record = client.get(upstream)
    await stale.request()
    stale.close()
    await (await peer.link()).answer(OK)
    await record.over.wait()
    assert record.ends == 1
    assert upstream.statistics().idle == 2


async def test_a_fresh_connection_that_is_lost_is_a_cut(
    peer: "Peer", upstream: UpstreamClient, client: "Client"
) -> None:
    record = client.get(upstream)
    link = await peer.link()
    await link.request()
    link.close()
    await record.over.wait()
    assert isinstance(record.failures[0], AnswerCut)
    assert (peer.accepted, upstream.statistics().retried) == (1, 0)


async def test_one_byte_of_an_answer_forbids_sending_again(
    peer: "Peer", upstream: UpstreamClient, client: "Client"
) -> None:
    (stale,) = await client.warm(upstream, peer)
    record = client.get(upstream)
    await stale.answer(b"H")
    stale.close()
    await record.over.wait()
    assert isinstance(record.failures[0], AnswerCut)
    assert (peer.accepted, upstream.statistics().retried) == (1, 0)


@pytest.mark.parametrize(
    "loss",
    [(0.0, 0.24, 1), (0.0, 0.25, 0), (0.25, 0.49, 1), (0.25, 0.5, 0), (30.0, 0.99, 1), (30.0, 1.0, 0)],
)
async def test_a_connection_lost_late_was_not_stale(
    peer: "Peer", upstream: UpstreamClient, client: "Client", loss: tuple[float, float, int]
) -> None:
    """A peer that worked on the request for a while may have charged for it."""
    opening, age, retried = loss
    (link,) = await client.warm(upstream, peer)
    upstream._idle[0].opening = opening
    record = client.record()
    upstream.send("POST", b"/v1/messages", [], b"{}", record)
    await link.request()
    client.clock.now += age
    link.close()
    if retried:
        await (await peer.link()).answer()
    await record.over.wait()
    assert upstream.statistics().retried == retried
    assert [(type(one), one.sent) for one in record.failures] == [(AnswerCut, True)] * (1 - retried)


@given(opening=st.floats(0, 1e6))
def test_how_long_a_loss_may_take_to_show_is_bounded_both_ways(opening: float) -> None:
    assert 0.25 <= stale_within(opening) <= 1.0
    assert stale_within(opening) >= min(2 * opening, 1.0)


async def test_a_connection_knows_how_long_it_took_to_open(
    peer: "Peer", upstream: UpstreamClient, client: "Client", monkeypatch: pytest.MonkeyPatch
) -> None:
    connect = upstream._connector.connect

    async def slowly(connection: Connection) -> None:
        client.clock.now += 3.0
        await connect(connection)

    monkeypatch.setattr(upstream._connector, "connect", slowly)
    await client.warm(upstream, peer)
    (connection,) = upstream._idle
    assert connection.opening == 3.0


async def test_a_connection_lost_in_the_middle_of_a_request_is_a_cut_without_frames(
    peer: "Peer", upstream: UpstreamClient, client: "Client"
) -> None:
    """The frames of a failed write hold what was to be written: the head with its credential."""
    record = client.record()
    upstream.send("POST", b"/", [(b"x-api-key", b"secret")], [bytes(1 << 20)] * 32, record)
    link = await peer.link()
    await link.head()
    link.reset()
    await record.over.wait()
    (failure,) = record.failures
    assert isinstance(failure, AnswerCut)
    assert (failure.sent, failure.answered) == (True, False)
    assert failure.__cause__ is None or failure.__cause__.__traceback__ is None


async def test_a_refused_connection_says_that_nothing_was_sent(peer: "Peer", client: "Client") -> None:
    upstream = UpstreamClient(peer.origin)
    await peer.stop()
    record = client.get(upstream)
    await record.over.wait()
    (failure,) = record.failures
    assert isinstance(failure, ConnectError)
    assert (failure.sent, failure.answered) == (False, False)
    assert str(failure) == f"No connection to {upstream.host}: connection refused"
    assert upstream.statistics().failures == {"connect": 1}
    await upstream.aclose()


async def test_after_a_stale_connection_a_refused_one_admits_that_something_was_sent(
    peer: "Peer", upstream: UpstreamClient, client: "Client"
) -> None:
    (stale,) = await client.warm(upstream, peer)
    record = client.get(upstream)
    await stale.request()
    await peer.stop()
    await record.over.wait()
    assert isinstance(record.failures[0], ConnectError)
    assert record.failures[0].sent


async def test_abort_closes_the_peer_s_connection_and_silences_the_sink(
    peer: "Peer", upstream: UpstreamClient, client: "Client"
) -> None:
    record = client.record()
    call = upstream.send("GET", b"/", [], b"", record)
    link = await peer.link()
    await link.answer(PART)
    await record.fed.wait()
    call.abort()
    call.abort()
    call.pause()
    call.resume()
    await link.gone()
    assert (record.ends, record.failures) == (0, [])
    statistics = upstream.statistics()
    assert (statistics.open, statistics.in_flight, dict(statistics.failures)) == (0, 0, {})


async def test_abort_while_dialling_stops_the_dial(peer: "Peer", upstream: UpstreamClient, client: "Client") -> None:
    record = client.record()
    call = upstream.send("GET", b"/", [], b"", record)
    call.abort()
    await upstream.aclose()
    assert not record.over.is_set()


class Quitter:
    """Aborts from inside a callback."""

    def __init__(self, at: str) -> None:
        self.at = at
        self.seen: list[str] = []
        self.abort = asyncio.Event()

    def note(self, event: str) -> None:
        self.seen.append(event)
        if event == self.at:
            self.exchange.abort()
            self.abort.set()

    def begin(self, upstream: UpstreamClient) -> None:
        self.exchange = upstream.send("GET", b"/", [], b"", self)

    def on_head(self, head: ResponseHead) -> None:
        self.note("head")

    def on_body(self, chunk: bytes) -> None:
        self.note("body")

    def on_end(self) -> None:
        self.note("end")

    def on_failure(self, failure: UpstreamError) -> None:
        self.note("failure")


@pytest.mark.parametrize(("at", "seen"), [("head", ["head"]), ("body", ["head", "body"])])
@pytest.mark.parametrize("answer", [OK, PART])
async def test_after_an_abort_from_inside_a_callback_nothing_comes(
    peer: "Peer", upstream: UpstreamClient, at: str, seen: list[str], answer: bytes
) -> None:
    sink = Quitter(at)
    sink.begin(upstream)
    link = await peer.link()
    await link.answer(answer)
    await sink.abort.wait()
    link.close()
    await upstream.aclose()
    assert sink.seen == seen


async def test_a_connection_serves_the_next_request_from_inside_on_end(
    peer: "Peer", upstream: UpstreamClient, client: "Client"
) -> None:
    follower = client.record()

    class Chain(Quitter):
        def on_end(self) -> None:
            upstream.send("GET", b"/next", [], b"", follower)

    Chain("never").begin(upstream)
    link = await peer.link()
    await link.answer(OK)
    assert (await link.answer(OK)).startswith(b"GET /next ")
    await follower.over.wait()
    assert peer.accepted == 1


async def test_a_sink_that_raises_loses_its_exchange_and_nothing_else(
    peer: "Peer", upstream: UpstreamClient, client: "Client"
) -> None:
    class Broken(Quitter):
        def on_body(self, chunk: bytes) -> None:
            raise ZeroDivisionError

    reported: asyncio.Queue[object] = asyncio.Queue()
    asyncio.get_running_loop().set_exception_handler(lambda _, context: reported.put_nowait(context.get("exception")))
    sink = Broken("never")
    sink.begin(upstream)
    link = await peer.link()
    await link.answer(PART)
    assert isinstance(await reported.get(), ZeroDivisionError)
    await link.gone()
    assert upstream.statistics().in_flight == 0
    record = client.get(upstream)
    await (await peer.link()).answer(OK)
    await record.over.wait()
    assert sink.seen == ["head"]


async def test_a_silent_peer_is_given_up_before_the_head(peer: "Peer", client: "Client") -> None:
    async with client.hurried(peer, first_byte=0.05) as upstream:
        clock = client.stop_clock(upstream)
        record = client.record()
        call = upstream.send("GET", b"/", [], b"", record)
        link = await peer.link()
        await link.answer(b"HTTP/1.1 100 Continue\r\n\r\n", b"HTTP/1.1 200 OK\r\nx: ")
        assert isinstance(call, Call)
        while not call.answered:  # noqa: ASYNC110  # no sink is called for half a head
            await asyncio.sleep(0)
        clock.now += 0.06
        await record.over.wait()
        (failure,) = record.failures
        assert isinstance(failure, AnswerTimeout)
        assert (failure.phase, failure.sent, failure.answered) == ("first-byte", True, True)
        assert "0.05 s" in str(failure)
        await link.gone()


async def test_a_head_that_trickles_in_buys_no_time(peer: "Peer", client: "Client") -> None:
    async with client.hurried(peer, first_byte=0.05) as upstream:
        record = client.get(upstream)
        link = await peer.link()
        await link.answer(b"HTTP/1.1 200 OK\r\nx: ")
        for _ in range(500):
            await asyncio.sleep(0.01)
            if record.over.is_set():
                break
            await link.send(b"a")
        assert isinstance(record.failures[0], AnswerTimeout)


async def test_a_stream_has_a_time_of_its_own_for_its_first_byte(peer: "Peer", client: "Client") -> None:
    async with client.hurried(peer, first_byte_stream=0.05) as upstream:
        record = client.record()
        upstream.send("GET", b"/", [], b"", record, stream=True)
        await record.over.wait()
        failure = record.failures[0]
        assert isinstance(failure, AnswerTimeout)
        assert (failure.phase, failure.answered) == ("first-byte", False)


async def test_a_peer_that_falls_silent_is_given_up(peer: "Peer", client: "Client") -> None:
    async with client.hurried(peer, idle=0.05) as upstream:
        record = client.get(upstream)
        link = await peer.link()
        await link.answer(PART)
        await record.over.wait()
        failure = record.failures[0]
        assert isinstance(failure, AnswerTimeout)
        assert failure.phase == "idle"
        assert record.body == b"hello"
        await link.gone()


async def test_a_dial_without_end_is_given_up(peer: "Peer", client: "Client") -> None:
    """A peer that accepts and never answers the TLS handshake."""
    async with client.hurried(peer, connect=0.05) as plain:
        upstream = UpstreamClient(f"https://localhost:{peer.port}", timeouts=plain.timeouts)
        record = client.get(upstream)
        await record.over.wait()
        failure = record.failures[0]
        assert isinstance(failure, AnswerTimeout)
        assert (failure.phase, failure.sent) == ("connect", False)
        await upstream.aclose()


async def test_a_pause_before_there_is_a_connection_holds_the_answer_back(
    peer: "Peer", upstream: UpstreamClient, client: "Client"
) -> None:
    held, free = client.record(), client.record()
    call = upstream.send("GET", b"/", [], b"", held)
    call.pause()
    await (await peer.link()).answer(OK)
    upstream.send("GET", b"/", [], b"", free)
    await (await peer.link()).answer(OK)
    await free.over.wait()
    assert held.head is None
    call.resume()
    await held.over.wait()
    assert held.body == b"hello"


async def test_a_pause_is_not_held_against_the_peer(peer: "Peer", client: "Client") -> None:
    async with client.hurried(peer, idle=0.05) as upstream:
        paused, running = client.record(), client.record()
        first = upstream.send("GET", b"/", [], b"", paused)
        link = await peer.link()
        await link.answer(PART)
        await paused.fed.wait()
        first.pause()
        upstream.send("GET", b"/", [], b"", running)
        await (await peer.link()).answer(PART)
        await running.over.wait()  # the time has passed for this one, which was not paused
        assert not paused.over.is_set()
        first.resume()
        await paused.over.wait()
        assert isinstance(paused.failures[0], AnswerTimeout)
