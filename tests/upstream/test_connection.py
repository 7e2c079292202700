from typing import TYPE_CHECKING

import pytest

from tokenferry.upstream import AnswerCut, BadAnswer, ConnectError, UpstreamClient

if TYPE_CHECKING:
    import ssl

    from upstream.conftest import Client, Peer

pytestmark = pytest.mark.anyio

LENGTH = b"HTTP/1.1 200 OK\r\ncontent-length: 11\r\n\r\n"
CHUNKS = b"HTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\n\r\n"
CLOSE = b"HTTP/1.1 200 OK\r\n\r\n"


@pytest.mark.parametrize(
    "answer",
    [LENGTH + b"hello world", CHUNKS + b"5\r\nhello\r\n6\r\n world\r\n0\r\n\r\n"],
    ids=["length", "chunks"],
)
async def test_reads_framed_answers_and_keeps_the_connection(
    way: "tuple[Peer, UpstreamClient]", client: "Client", answer: bytes
) -> None:
    peer, upstream = way
    for _ in range(3):
        record = client.get(upstream)
        if not peer.accepted:
            link = await peer.link()
        await link.answer(*(answer[i : i + 1] for i in range(len(answer))))
        await record.over.wait()
        assert (record.ends, record.failures, record.body) == (1, [], b"hello world")
    assert peer.accepted == 1
    assert upstream.statistics().reused == 2


async def test_the_end_of_the_connection_ends_an_unframed_answer(
    way: "tuple[Peer, UpstreamClient]", client: "Client"
) -> None:
    peer, upstream = way
    record = client.get(upstream)
    link = await peer.link()
    await link.answer(CLOSE, b"hello ", b"world")
    link.close()
    await record.over.wait()
    assert (record.ends, record.body) == (1, b"hello world")
    assert upstream.statistics().idle == 0


@pytest.mark.parametrize(
    ("answer", "after_head"),
    [
        (b"", False),
        (b"H", False),
        (LENGTH[:-2], False),
        (LENGTH, True),
        (LENGTH + b"hello worl", True),
        (CHUNKS, True),
        (CHUNKS + b"b\r\nhello world", True),
        (CHUNKS + b"b\r\nhello world\r\n", True),
        (CHUNKS + b"b\r\nhello world\r\n0\r\n", True),
    ],
)
async def test_a_framed_answer_that_ends_early_is_a_cut(
    way: "tuple[Peer, UpstreamClient]", client: "Client", answer: bytes, *, after_head: bool
) -> None:
    peer, upstream = way
    record = client.get(upstream)
    link = await peer.link()
    await link.answer(answer)
    link.close()
    await record.over.wait()
    (failure,) = record.failures
    assert isinstance(failure, AnswerCut)
    assert (failure.sent, failure.answered, failure.after_head) == (True, bool(answer), after_head)
    assert upstream.host in str(failure)
    assert upstream.statistics().failures == {"cut": 1}


@pytest.mark.parametrize("answer", [LENGTH + b"hello", CHUNKS + b"5\r\nhello\r\n", CLOSE + b"hello"])
async def test_a_reset_is_a_cut_in_every_framing(
    peer: "Peer", upstream: UpstreamClient, client: "Client", answer: bytes
) -> None:
    record = client.get(upstream)
    link = await peer.link()
    await link.answer(answer)
    await record.fed.wait()
    link.reset()
    await record.over.wait()
    assert isinstance(record.failures[0], AnswerCut)


async def test_over_tls_only_the_peer_s_word_ends_an_unframed_answer(
    tls_peer: "Peer", tls_upstream: UpstreamClient, client: "Client"
) -> None:
    """Whoever sits on the path can close the TCP connection, and an answer would seem complete."""
    record = client.get(tls_upstream)
    link = await tls_peer.link()
    await link.answer(CLOSE + b"hello")
    await record.fed.wait()
    link.cut()
    await record.over.wait()
    assert isinstance(record.failures[0], AnswerCut)


async def test_interim_answers_are_skipped(peer: "Peer", upstream: UpstreamClient, client: "Client") -> None:
    record = client.get(upstream)
    link = await peer.link()
    await link.answer(b"HTTP/1.1 100 Continue\r\n\r\n", b"HTTP/1.1 103 Early Hints\r\nlink: x\r\n\r\n", LENGTH)
    await record.headed.wait()
    assert record.head is not None
    assert (record.head.status, record.head.headers) == (200, [(b"content-length", b"11")])


@pytest.mark.parametrize("status", [b"204 No Content", b"304 Not Modified"])
async def test_bodiless_statuses_end_with_their_head(
    peer: "Peer", upstream: UpstreamClient, client: "Client", status: bytes
) -> None:
    record = client.get(upstream)
    link = await peer.link()
    await link.answer(b"HTTP/1.1 %b\r\nx: y\r\n\r\n" % status)
    await record.over.wait()
    assert (record.ends, record.chunks) == (1, [])
    assert upstream.statistics().idle == 1


async def test_an_answer_to_head_ends_with_its_head(peer: "Peer", upstream: UpstreamClient, client: "Client") -> None:
    record = client.get(upstream, "HEAD")
    link = await peer.link()
    await link.answer(LENGTH)
    await record.over.wait()
    assert (record.ends, record.chunks) == (1, [])
    await link.gone()
    assert upstream.statistics().idle == 0


async def test_bytes_after_an_answer_close_the_connection_and_reach_no_call(
    peer: "Peer", upstream: UpstreamClient, client: "Client"
) -> None:
    record = client.get(upstream)
    link = await peer.link()
    await link.answer(LENGTH + b"hello worldHTTP/1.1 200 OK\r\ncontent-length: 4\r\n\r\nevil")
    await record.over.wait()
    assert record.body == b"hello world"
    assert upstream.statistics().idle == 0
    await link.gone()


async def test_bytes_on_an_idle_connection_close_it(peer: "Peer", upstream: UpstreamClient, client: "Client") -> None:
    record = client.get(upstream)
    link = await peer.link()
    await link.answer(LENGTH + b"hello world")
    await record.over.wait()
    assert upstream.statistics().idle == 1
    await link.send(b"HTTP/1.1 200 OK\r\ncontent-length: 4\r\n\r\nevil")
    await link.gone()
    assert upstream.statistics().idle == 0


async def test_a_peer_that_closes_an_idle_connection_takes_it_out_of_the_pool(
    way: "tuple[Peer, UpstreamClient]", client: "Client"
) -> None:
    peer, upstream = way
    record = client.get(upstream)
    link = await peer.link()
    await link.answer(LENGTH + b"hello world")
    await record.over.wait()
    await link.leave()
    assert upstream.statistics().idle == 0
    record = client.get(upstream)
    await (await peer.link()).answer(LENGTH + b"hello again")
    await record.over.wait()
    assert record.body == b"hello again"
    assert upstream.statistics().retried == 0


@pytest.mark.parametrize(
    "answer",
    [
        b"HTTP/1.1 200 OK\r\ncontent-length: 5\r\ntransfer-encoding: chunked\r\n\r\n0\r\n\r\n",
        b"HTTP/1.1 101 Switching Protocols\r\nupgrade: h2c\r\nconnection: upgrade\r\n\r\n",
        b"SSH-2.0-OpenSSH_9.9\r\n",
        b"HTTP/1.1 200 OK\r\n" + b"x: y\r\n" * 300 + b"\r\n",
    ],
)
async def test_an_unsound_answer_closes_the_connection(
    peer: "Peer", upstream: UpstreamClient, client: "Client", answer: bytes
) -> None:
    record = client.get(upstream)
    link = await peer.link()
    await link.answer(answer)
    await record.over.wait()
    (failure,) = record.failures
    assert isinstance(failure, BadAnswer)
    assert (failure.sent, failure.answered, failure.after_head) == (True, True, False)
    await link.gone()


async def test_what_came_before_the_fault_is_delivered_before_the_failure(
    peer: "Peer", upstream: UpstreamClient, client: "Client"
) -> None:
    record = client.get(upstream)
    link = await peer.link()
    await link.answer(CHUNKS + b"5\r\nhello\r\nXX\r\n")
    await record.over.wait()
    assert record.body == b"hello"
    assert isinstance(record.failures[0], BadAnswer)
    assert record.failures[0].after_head


async def test_an_answer_before_the_request_was_read_is_delivered(
    way: "tuple[Peer, UpstreamClient]", client: "Client"
) -> None:
    peer, upstream = way
    record = client.record()
    upstream.send("POST", b"/", [], [bytes(1 << 20)] * 32, record)
    link = await peer.link()
    await link.head()
    await link.send(b"HTTP/1.1 413 Content Too Large\r\ncontent-length: 0\r\n\r\n")
    await record.over.wait()
    assert record.head is not None
    assert record.head.status == 413
    assert record.ends == 1


@pytest.mark.parametrize("size", [1, 32])
async def test_an_answer_before_the_request_was_read_survives_the_connection_s_reset(
    way: "tuple[Peer, UpstreamClient]", client: "Client", size: int
) -> None:
    """A peer that closes with bytes unread resets the connection: the kernel fails our writes from then on."""
    peer, upstream = way
    for _ in range(5):
        record = client.record()
        upstream.send("POST", b"/", [], [bytes(1 << 20)] * size, record)
        link = await peer.link()
        await link.head()
        await link.send(b"HTTP/1.1 401 Unauthorized\r\ncontent-length: 5\r\n\r\nhello")
        link.close()
        await record.over.wait()
        assert record.head is not None
        assert (record.head.status, record.body, record.ends) == (401, b"hello", 1)


@pytest.mark.parametrize("answer", [b"", LENGTH + b"hello", CHUNKS + b"5\r\nhello\r\n"])
async def test_a_peer_that_half_closes_has_said_all_it_will(
    peer: "Peer", upstream: UpstreamClient, client: "Client", answer: bytes
) -> None:
    record = client.get(upstream)
    link = await peer.link()
    await link.answer(answer)
    link.writer.write_eof()
    await record.over.wait()
    assert isinstance(record.failures[0], AnswerCut)
    await link.gone()


async def test_a_peer_that_half_closes_right_after_its_answer_is_not_asked_again(
    peer: "Peer", upstream: UpstreamClient, client: "Client"
) -> None:
    record = client.get(upstream)
    link = await peer.link()
    await link.request()
    link.writer.write(LENGTH + b"hello world")
    link.writer.write_eof()
    await record.over.wait()
    assert (record.ends, record.body) == (1, b"hello world")
    await link.gone()
    record = client.get(upstream)
    await (await peer.link()).answer(LENGTH + b"hello again")
    await record.over.wait()
    assert record.body == b"hello again"


async def test_a_request_still_unsent_at_the_end_of_its_answer_closes_the_connection(
    peer: "Peer", upstream: UpstreamClient, client: "Client"
) -> None:
    record = client.record()
    upstream.send("POST", b"/", [], [bytes(1 << 20)] * 32, record)
    link = await peer.link()
    await link.head()
    await link.send(LENGTH + b"hello world")
    await record.over.wait()
    assert record.ends == 1
    assert upstream.statistics().idle == 0


async def test_an_untrusted_certificate_is_a_failed_connection_and_nothing_is_sent(
    tls_peer: "Peer", client: "Client"
) -> None:
    upstream = UpstreamClient(tls_peer.origin)
    record = client.get(upstream)
    await record.over.wait()
    (failure,) = record.failures
    assert isinstance(failure, ConnectError)
    assert "certificate" in str(failure)
    assert not failure.sent
    await upstream.aclose()


async def test_a_certificate_for_another_host_is_refused(
    tls_peer: "Peer", trusting: "ssl.SSLContext", client: "Client"
) -> None:
    upstream = UpstreamClient(f"https://127.0.0.1:{tls_peer.port}", ssl_context=trusting)
    record = client.get(upstream)
    await record.over.wait()
    assert isinstance(record.failures[0], ConnectError)
    await upstream.aclose()


async def test_a_peer_that_speaks_no_tls_is_a_failed_connection(peer: "Peer", client: "Client") -> None:
    upstream = UpstreamClient(f"https://localhost:{peer.port}")
    record = client.get(upstream)
    link = await peer.link()
    await link.send(b"HTTP/1.1 400 Bad Request\r\n\r\n")
    await record.over.wait()
    assert isinstance(record.failures[0], ConnectError)
    await upstream.aclose()
