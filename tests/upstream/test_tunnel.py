import asyncio
import socket
import ssl
import sys
from base64 import b64encode
from collections.abc import AsyncIterator
from typing import TYPE_CHECKING

import pytest
import trustme

from tokenferry.upstream import AnswerTimeout, ConnectError, Timeouts, UpstreamClient, UpstreamError
from tokenferry.upstream._origin import parse_origin
from tokenferry.upstream._proxy import parse_proxy
from tokenferry.upstream._tunnel import connect_request, tunnel_fault
from upstream.proxies import ESTABLISHED, PASSWORD, USER, USERINFO, Tunneller, through
from upstream.responses import fetch

if TYPE_CHECKING:
    from upstream.conftest import Client, Link, Peer, Record

pytestmark = pytest.mark.anyio

FAR = "https://api.invalid"
WHOLE = bytes(range(256)) * 16384
KEY = b"sk-ant-api03-very-secret"
BASIC = b64encode(f"{USER}:{PASSWORD}".encode())


def test_asks_for_host_and_port_and_proves_who_asks() -> None:
    proxy = parse_proxy(f"http://{USERINFO}@proxy:3128")
    assert not isinstance(proxy, str)
    assert connect_request(parse_origin(FAR), proxy) == (
        b"CONNECT api.invalid:443 HTTP/1.1\r\nhost: api.invalid:443\r\nproxy-authorization: Basic "
        + BASIC
        + b"\r\n\r\n"
    )
    bare = parse_proxy("http://proxy:3128")
    assert not isinstance(bare, str)
    assert connect_request(parse_origin("https://[2001:db8::1]:8443/base"), bare) == (
        b"CONNECT [2001:db8::1]:8443 HTTP/1.1\r\nhost: [2001:db8::1]:8443\r\n\r\n"
    )


def test_every_2xx_opens_a_tunnel_and_nothing_else_does() -> None:
    assert [status for status in range(200, 600) if tunnel_fault(status) is None] == list(range(200, 300))


@pytest.fixture(params=["http", "https"])
async def tunneller(
    request: pytest.FixtureRequest, tls_peer: "Peer", authority: trustme.CA
) -> AsyncIterator[Tunneller]:
    context = None
    if request.param == "https":
        context = ssl.create_default_context(ssl.Purpose.CLIENT_AUTH)
        authority.issue_cert("localhost").configure_cert(context)
    async with Tunneller(tls_peer.port, context).running() as tunneller:
        yield tunneller


@pytest.fixture
async def far(tunneller: Tunneller, trusting: ssl.SSLContext) -> AsyncIterator[UpstreamClient]:
    """An upstream that only the proxy knows the way to."""
    upstream = UpstreamClient(FAR, proxies=through(tunneller.url(USERINFO)), ssl_context=trusting)
    yield upstream
    await upstream.aclose()


async def test_requests_go_through_one_tunnel_and_the_proxy_sees_none_of_them(
    tunneller: Tunneller, tls_peer: "Peer", far: UpstreamClient, client: "Client"
) -> None:
    for turn in range(3):
        record = client.record()
        far.send("POST", b"/v1/messages", [(b"x-api-key", KEY)], b"{}", record)
        if not turn:
            link = await tls_peer.link()
        request = await link.answer()
        assert request.startswith(b"POST /v1/messages HTTP/1.1\r\nhost: api.invalid\r\nx-api-key: " + KEY)
        assert b"proxy-authorization" not in request
        await record.over.wait()
        assert (record.ends, record.body) == (1, b"hello")
    assert [head.splitlines()[0] for head in tunneller.heads] == [b"CONNECT api.invalid:443 HTTP/1.1"]
    assert b"proxy-authorization: Basic " + BASIC in tunneller.heads[0].splitlines()
    assert KEY not in tunneller.passed
    assert far.statistics().reused == 2


async def test_large_bodies_pass_both_ways_and_a_slow_reader_loses_nothing(
    tls_peer: "Peer", far: UpstreamClient
) -> None:
    requesting = asyncio.ensure_future(fetch(far, "POST", b"/", [], [WHOLE, memoryview(WHOLE)]))
    link = await tls_peer.link()
    request = await link.request()
    assert request.endswith(WHOLE + WHOLE)
    sending = asyncio.ensure_future(link.send(b"HTTP/1.1 200 OK\r\n\r\n", WHOLE))
    response = await requesting
    for _ in range(100):
        await asyncio.sleep(0)
    got = await anext(response.body())
    await sending
    link.close()
    assert got + await response.read(len(WHOLE)) == WHOLE


async def test_through_a_tunnel_only_the_peer_s_word_ends_an_unframed_answer(
    tls_peer: "Peer", far: UpstreamClient, client: "Client"
) -> None:
    record = client.get(far)
    link = await tls_peer.link()
    await link.answer(b"HTTP/1.1 200 OK\r\n\r\nhello")
    await record.fed.wait()
    link.cut()
    await record.over.wait()
    assert record.failures[0].kind == "cut"


async def test_abort_closes_the_tunnel(tls_peer: "Peer", far: UpstreamClient, client: "Client") -> None:
    exchange = far.send("GET", b"/", [], b"", client.record())
    link = await tls_peer.link()
    await link.answer(b"HTTP/1.1 200 OK\r\n\r\nhello")
    exchange.abort()
    await link.gone()
    assert far.statistics().in_flight == 0


async def test_the_peer_s_certificate_is_checked_behind_the_proxy(
    tunneller: Tunneller, trusting: ssl.SSLContext, client: "Client"
) -> None:
    is_asyncio_s = isinstance(asyncio.get_running_loop(), asyncio.SelectorEventLoop)
    if is_asyncio_s and tunneller.url().startswith("https") and sys.version_info < (3, 13):
        pytest.skip("this asyncio fails to end a failed handshake of TLS within TLS; uvloop, which is used, does not")
    upstream = UpstreamClient("https://other.invalid", proxies=through(tunneller.url()), ssl_context=trusting)
    failure = await failed(client.get(upstream))
    assert isinstance(failure, ConnectError)
    assert "other.invalid" in str(failure)
    assert "certificate" in str(failure)
    assert not failure.sent
    await upstream.aclose()
    assert upstream.statistics().open == 0


async def test_exempt_upstreams_are_reached_directly(
    tls_peer: "Peer", trusting: ssl.SSLContext, client: "Client"
) -> None:
    for proxies in (through("http://proxy.invalid"), through("http://proxy.invalid", "api.invalid")):
        upstream = UpstreamClient(tls_peer.origin, proxies=proxies, ssl_context=trusting)
        record = client.get(upstream)
        await (await tls_peer.link()).answer()
        await record.over.wait()
        assert record.ends == 1
        await upstream.aclose()


async def failed(record: "Record") -> UpstreamError:
    await record.over.wait()
    assert PASSWORD not in repr(record.failures)
    error: BaseException | None = record.failures[0]
    while error is not None:
        traceback = error.__traceback__
        while traceback is not None:
            assert BASIC.decode() not in repr(traceback.tb_frame.f_locals)
            traceback = traceback.tb_next
        error = error.__cause__
    return record.failures[0]


@pytest.fixture
async def behind(peer: "Peer", trusting: ssl.SSLContext) -> AsyncIterator[UpstreamClient]:
    """An upstream behind a proxy whose every byte the test decides."""
    proxies = through(f"http://{USERINFO}@127.0.0.1:{peer.port}")
    upstream = UpstreamClient(FAR, proxies=proxies, ssl_context=trusting)
    yield upstream
    await upstream.aclose()


async def asked(peer: "Peer") -> "Link":
    link = await peer.link()
    assert (await link.head()).startswith(b"CONNECT api.invalid:443 ")
    return link


@pytest.mark.parametrize(
    ("answer", "told"),
    [
        (
            b"HTTP/1.1 407 Who?\r\nproxy-authenticate: Basic\r\ncontent-length: 2\r\n\r\nno",
            "http://NAME:PASSWORD@HOST:PORT",
        ),
        (b"HTTP/1.1 403 No\r\ncontent-length: 2\r\n\r\nno", "refused the tunnel (403)"),
        (b"HTTP/1.1 502 No\r\n\r\n", "(502)"),
        (b"HTTP/1.1 302 Elsewhere\r\nlocation: https://evil\r\n\r\n", "(302)"),
        (b"HTTP/1.1 101 Switching\r\nupgrade: x\r\nconnection: upgrade\r\n\r\n", "can't be used"),
        (b"SSH-2.0-OpenSSH\r\n", "can't be used"),
        (b"HTTP/1.1 200 OK\r\nx: " + b"a" * 70_000, "65536 bytes"),
        (ESTABLISHED + b"220 welcome", "sent unexpected bytes"),
    ],
)
async def test_a_proxy_that_opens_no_tunnel_is_named_and_nothing_is_sent(
    peer: "Peer", behind: UpstreamClient, client: "Client", answer: bytes, told: str
) -> None:
    record = client.get(behind)
    link = await asked(peer)
    await link.send(answer)
    failure = await failed(record)
    assert isinstance(failure, ConnectError)
    assert not failure.sent
    assert told in str(failure)
    assert f"the proxy 127.0.0.1:{peer.port} " in str(failure)
    assert "api.invalid" in str(failure)
    await link.gone()


@pytest.mark.parametrize("answer", [b"", b"HTTP/1.1 200 OK\r\n", ESTABLISHED])
async def test_a_proxy_that_leaves_is_a_failed_connection(
    peer: "Peer", behind: UpstreamClient, client: "Client", answer: bytes
) -> None:
    record = client.get(behind)
    link = await asked(peer)
    await link.send(answer)
    link.close()
    failure = await failed(record)
    assert isinstance(failure, ConnectError)
    assert not failure.sent


async def test_a_head_in_pieces_after_an_interim_answer_opens_the_tunnel(
    peer: "Peer", behind: UpstreamClient, client: "Client"
) -> None:
    record = client.get(behind)
    link = await asked(peer)
    answer = b"HTTP/1.1 102 Processing\r\n\r\n" + ESTABLISHED
    await link.send(*(answer[i : i + 1] for i in range(len(answer))))
    assert (await link.reader.readexactly(3))[:2] == b"\x16\x03"  # the handshake begins
    link.close()
    await failed(record)


@pytest.mark.parametrize("answer", [b"", b"HTTP/1.1 200 OK\r\n", ESTABLISHED])
async def test_a_proxy_that_falls_silent_is_given_up(
    peer: "Peer", trusting: ssl.SSLContext, client: "Client", answer: bytes
) -> None:
    proxies = through(f"http://127.0.0.1:{peer.port}")
    upstream = UpstreamClient(FAR, proxies=proxies, ssl_context=trusting, timeouts=Timeouts(connect=0.05))
    record = client.get(upstream)
    link = await asked(peer)
    await link.send(answer)
    failure = await failed(record)
    assert isinstance(failure, AnswerTimeout)
    assert (failure.phase, failure.sent) == ("connect", False)
    await link.gone()
    await upstream.aclose()


async def test_a_proxy_that_is_not_there_is_named(trusting: ssl.SSLContext, client: "Client") -> None:
    with socket.create_server(("127.0.0.1", 0)) as server:
        port = server.getsockname()[1]
    upstream = UpstreamClient(FAR, proxies=through(f"http://{USERINFO}@127.0.0.1:{port}"), ssl_context=trusting)
    failure = await failed(client.get(upstream))
    assert isinstance(failure, ConnectError)
    assert str(failure) == (
        f"No connection to api.invalid: the proxy 127.0.0.1:{port} can't be reached (connection refused)"
    )
    await upstream.aclose()


async def test_a_proxy_over_tls_shows_a_certificate_first(tls_peer: "Peer", client: "Client") -> None:
    """Else the password would go to whoever answers."""
    upstream = UpstreamClient(FAR, proxies=through(f"https://{USERINFO}@localhost:{tls_peer.port}"))
    failure = await failed(client.get(upstream))
    assert isinstance(failure, ConnectError)
    assert "certificate" in str(failure)
    await upstream.aclose()
