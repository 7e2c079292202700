import asyncio
import contextlib
import os
import socket
import ssl
import struct
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from typing import Any

import pytest
import trustme

from tokenferry.upstream import ResponseHead, Timeouts, UpstreamClient, UpstreamError

FAR = "api.invalid"
"""A host that only a proxy knows the way to."""
OK = b"HTTP/1.1 200 OK\r\ncontent-length: 5\r\n\r\nhello"


class Link:
    """One connection a peer accepted; the test speaks for the server."""

    def __init__(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self.reader = reader
        self.writer = writer

    async def head(self) -> bytes:
        return await self.reader.readuntil(b"\r\n\r\n")

    async def request(self) -> bytes:
        """Read a whole request, head and body."""
        head = await self.head()
        for line in head.split(b"\r\n"):
            name, _, value = line.partition(b": ")
            if name == b"content-length":
                return head + await self.reader.readexactly(int(value))
        return head

    async def send(self, *pieces: bytes) -> None:
        for piece in pieces:
            self.writer.write(piece)
            await self.writer.drain()

    async def answer(self, *pieces: bytes) -> bytes:
        request = await self.request()
        await self.send(*pieces or (OK,))
        return request

    def close(self) -> None:
        self.writer.close()

    def cut(self) -> None:
        """Close the TCP connection below TLS, without a word."""
        with socket.socket(fileno=os.dup(self.writer.get_extra_info("socket").fileno())) as sock:
            sock.shutdown(socket.SHUT_RDWR)

    async def leave(self) -> None:
        """Close, and wait until the client has seen it."""
        with contextlib.suppress(OSError):
            if self.writer.can_write_eof():
                self.writer.write_eof()
                await self.gone()
            else:
                self.writer.close()
                await self.writer.wait_closed()

    def reset(self) -> None:
        sock = self.writer.get_extra_info("socket")
        sock.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
        self.writer.transport.abort()

    async def gone(self) -> None:
        """Wait until the client has closed the connection."""
        with contextlib.suppress(OSError):
            while await self.reader.read(65536):
                pass


class Peer:
    """A server on loopback whose every byte the test decides."""

    def __init__(self, tls: ssl.SSLContext | None = None, host: str = "127.0.0.1") -> None:
        self._tls = tls
        self._host = host
        self._links: asyncio.Queue[Link] = asyncio.Queue()
        self._writers: list[asyncio.StreamWriter] = []
        self._server: asyncio.Server | None = None
        self.accepted = 0

    async def start(self) -> None:
        self._server = await asyncio.start_server(self._accept, self._host, 0, ssl=self._tls)

    async def _accept(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self.accepted += 1
        self._writers.append(writer)
        await self._links.put(Link(reader, writer))

    @property
    def port(self) -> int:
        assert self._server is not None
        port: int = self._server.sockets[0].getsockname()[1]
        return port

    @property
    def origin(self) -> str:
        host = f"[{self._host}]" if ":" in self._host else self._host
        return f"https://localhost:{self.port}" if self._tls else f"http://{host}:{self.port}"

    async def link(self) -> Link:
        return await self._links.get()

    async def stop(self) -> None:
        assert self._server is not None
        self._server.close()
        for writer in self._writers:
            writer.transport.abort()
            with contextlib.suppress(OSError):
                await writer.wait_closed()


class Record:
    """A sink that keeps all it is told."""

    def __init__(self) -> None:
        self.head: ResponseHead | None = None
        self.chunks: list[bytes] = []
        self.ends = 0
        self.failures: list[UpstreamError] = []
        self.headed = asyncio.Event()
        self.fed = asyncio.Event()
        self.over = asyncio.Event()

    @property
    def body(self) -> bytes:
        return b"".join(self.chunks)

    def on_head(self, head: ResponseHead) -> None:
        assert self.head is None
        assert not self.over.is_set()
        self.head = head
        self.headed.set()

    def on_body(self, chunk: bytes) -> None:
        assert self.head is not None
        assert not self.over.is_set()
        self.chunks.append(chunk)
        self.fed.set()

    def on_end(self) -> None:
        assert not self.over.is_set()
        self.ends += 1
        self.over.set()

    def on_failure(self, failure: UpstreamError) -> None:
        assert not self.over.is_set()
        self.failures.append(failure)
        self.over.set()


@pytest.fixture(
    params=[
        pytest.param(("asyncio", {"use_uvloop": False}), id="asyncio"),
        pytest.param(("asyncio", {"use_uvloop": True}), id="uvloop"),
    ]
)
def anyio_backend(request: pytest.FixtureRequest) -> tuple[str, dict[str, Any]]:
    """Run on both event loops: their transports are written apart."""
    backend: tuple[str, dict[str, Any]] = request.param
    return backend


class StillLoop:
    """The running loop with a clock that stands still until the test moves it, in seconds."""

    def __init__(self) -> None:
        self.now = 1000.0
        self._loop = asyncio.get_running_loop()

    def time(self) -> float:
        return self.now

    def __getattr__(self, name: str) -> Any:
        return getattr(self._loop, name)


StartPeer = Callable[..., Awaitable[Peer]]


@pytest.fixture
async def start_peer() -> AsyncIterator[StartPeer]:
    started: list[Peer] = []

    async def start(tls: ssl.SSLContext | None = None, host: str = "127.0.0.1") -> Peer:
        started.append(Peer(tls, host))
        await started[-1].start()
        return started[-1]

    yield start
    for peer in started:
        await peer.stop()


@pytest.fixture
async def peer(start_peer: StartPeer) -> Peer:
    return await start_peer()


@pytest.fixture(scope="session")
def authority() -> trustme.CA:
    return trustme.CA()


@pytest.fixture
async def tls_peer(authority: trustme.CA, start_peer: StartPeer) -> Peer:
    context = ssl.create_default_context(ssl.Purpose.CLIENT_AUTH)
    authority.issue_cert("localhost", FAR).configure_cert(context)
    context.set_alpn_protocols(["h2", "http/1.1"])
    return await start_peer(context)


@pytest.fixture
def trusting(authority: trustme.CA) -> ssl.SSLContext:
    context = ssl.create_default_context()
    authority.configure_trust(context)
    return context


@pytest.fixture
async def upstream(peer: Peer) -> AsyncIterator[UpstreamClient]:
    upstream = UpstreamClient(peer.origin)
    yield upstream
    await upstream.aclose()


@pytest.fixture
async def tls_upstream(tls_peer: Peer, trusting: ssl.SSLContext) -> AsyncIterator[UpstreamClient]:
    upstream = UpstreamClient(tls_peer.origin, ssl_context=trusting)
    yield upstream
    await upstream.aclose()


@pytest.fixture(params=["tcp", "tls"])
def way(request: pytest.FixtureRequest) -> tuple[Peer, UpstreamClient]:
    """One peer and its upstream, over TCP and over TLS."""
    names = ("tls_peer", "tls_upstream") if request.param == "tls" else ("peer", "upstream")
    return request.getfixturevalue(names[0]), request.getfixturevalue(names[1])


class Client:
    """Short ways to send, for tests where the request does not matter."""

    clock: StillLoop
    """That of the upstream whose clock was stopped last."""

    def __init__(self) -> None:
        self.record = Record

    def get(self, upstream: UpstreamClient, method: str = "GET") -> Record:
        record = Record()
        upstream.send(method, b"/v1/messages", [(b"accept", b"*/*")], b"", record)
        return record

    def stop_clock(self, upstream: UpstreamClient) -> StillLoop:
        """Let the upstream's time pass by the test alone. Before its first request."""
        vars(upstream)["loop"] = self.clock = StillLoop()
        return self.clock

    async def warm(self, upstream: UpstreamClient, peer: Peer, count: int = 1) -> list[Link]:
        """Put so many connections into the pool, and return them, the one used last at the end.

        The upstream's clock stands still from here on: however slow the machine is, a lost connection is lost at once.
        """
        self.stop_clock(upstream)
        records = [Record() for _ in range(count)]
        for i, record in enumerate(records):
            upstream.send("GET", b"/%d" % i, [], b"", record)
        links: list[Link] = []
        for _ in records:
            links.append(await peer.link())
            request = await links[-1].answer()
            await records[int(request.split()[1][1:])].over.wait()
        assert upstream.statistics().idle == count
        return links

    @asynccontextmanager
    async def hurried(self, peer: Peer, **timeouts: float) -> AsyncIterator[UpstreamClient]:
        upstream = UpstreamClient(peer.origin, timeouts=Timeouts(**timeouts))
        try:
            yield upstream
        finally:
            await upstream.aclose()


@pytest.fixture
def client() -> Client:
    return Client()
