"""Where a gateway listens, and how it ends."""

import asyncio
import contextlib
import json
import socket
import ssl
import sys
from collections.abc import AsyncIterator, Iterator
from pathlib import Path

import pytest
import trustme

from gateway.rig import PATIENCE, Gate, Origin, Records, Seen, Source, read_reply, read_rest, running_gate
from tokenferry.gateway import (
    BaseLifespan,
    EphemeralKey,
    Forwarder,
    Gateway,
    Guard,
    Server,
    UpstreamClients,
    bind,
    bind_unix,
    own_hosts,
    server_tls,
)
from tokenferry.gateway.telemetry.record import RequestRecord
from tokenferry.settings import Home, RouterSettings

pytestmark = pytest.mark.anyio


CONTENT = b'event: content_block_start\ndata: {"type":"content_block_start","index":0}\n\n'


class Held:
    """A script that answers when it is told to: an event stream, or one of announced length."""

    def __init__(self, *, stream: bool = False) -> None:
        self.asked, self.go = asyncio.Event(), asyncio.Event()
        self._stream = stream

    async def __call__(self, seen: Seen, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        if self._stream:
            writer.write(b"HTTP/1.1 200 OK\r\ncontent-type: text/event-stream\r\n\r\n" + CONTENT)
        self.asked.set()
        await self.go.wait()
        if self._stream:
            writer.write(b'event: message_stop\ndata: {"type":"message_stop"}\n\n')
        else:
            writer.write(b"HTTP/1.1 200 OK\r\ncontent-length: 2\r\n\r\nok")


@contextlib.asynccontextmanager
async def ending(gate: Gate) -> AsyncIterator[None]:
    """Tell it to end, and go on when it accepts no more."""
    gate.listener.stop()
    async with asyncio.timeout(PATIENCE):
        while True:
            try:
                _, writer = await asyncio.open_connection("127.0.0.1", gate.port)
            except ConnectionError:
                break
            await close(writer)
    yield


async def close(writer: asyncio.StreamWriter) -> None:
    writer.close()
    with contextlib.suppress(ConnectionError):
        await writer.wait_closed()


@pytest.fixture
def unix(home: Home) -> Iterator[socket.socket]:
    with bind_unix(home.path / "gateway.sock", home.locks) as sock:
        yield sock


async def test_on_a_unix_socket_any_host_is_answered(source: Source, unix: socket.socket) -> None:
    async with running_gate(source, sock=unix) as gate, asyncio.timeout(PATIENCE):
        reader, writer = await asyncio.open_unix_connection(unix.getsockname())
        writer.write(gate.head(headers=[(b"host", b"gateway.local")], length=2) + b"{}")
        assert (await read_reply(reader)).status == 200
        foreign = [(b"host", b"gateway.local"), (b"origin", b"http://evil.example")]
        writer.write(gate.head(headers=foreign, length=2) + b"{}")
        assert (await read_reply(reader)).status == 403
        writer.write(gate.head(headers=[(b"host", b"gateway.local"), (b"host", b"other")], length=2) + b"{}")
        assert (await read_reply(reader)).status == 400
        await close(writer)


@pytest.fixture
def authority() -> trustme.CA:
    return trustme.CA()


@pytest.fixture
def tls(authority: trustme.CA, tmp_path: Path) -> ssl.SSLContext:
    issued = authority.issue_cert("127.0.0.1")
    certificate, key = tmp_path / "cert.pem", tmp_path / "key.pem"
    certificate.write_bytes(b"".join(blob.bytes() for blob in issued.cert_chain_pems))
    key.touch(0o600)
    key.write_bytes(issued.private_key_pem.bytes())
    return server_tls(certificate, key)


async def test_tls_is_spoken(source: Source, authority: trustme.CA, tls: ssl.SSLContext) -> None:
    trusting = ssl.create_default_context()
    authority.configure_trust(trusting)
    async with running_gate(source, tls=tls) as gate, asyncio.timeout(PATIENCE):
        reader, writer = await asyncio.open_connection("127.0.0.1", gate.port, ssl=trusting)
        for origin in (b"https://", b"http://"):
            writer.write(gate.head(headers=[(b"origin", origin + gate.host)], length=2) + b"{}")
            assert (await read_reply(reader)).status == 200
        writer.write(b"GET / HTTP/1.1\r\nHost: a\r\nHost: b\r\n\r\n")
        assert (await reader.read()).startswith(b"HTTP/1.1 400 ")
        await close(writer)
        async with gate.open() as (plain_reader, plain_writer):
            plain_writer.write(gate.head(length=2) + b"{}")
            assert b"HTTP/1.1" not in await read_rest(plain_reader)


async def test_an_ending_gateway_answers_what_it_has_read_and_closes_the_rest(source: Source, origin: Origin) -> None:
    held = Held()
    origin.scripts = [held]
    told: list[str] = []
    async with (
        running_gate(source, drain=PATIENCE, tell=told.append) as gate,
        gate.open() as (reader, writer),
        gate.open() as (idle_reader, idle_writer),
        gate.open() as (silent_reader, _),
    ):
        idle_writer.write(gate.head(b"/", method=b"GET"))
        await read_reply(idle_reader)
        writer.write(gate.head(length=2) + b"{}")
        await held.asked.wait()
        async with ending(gate):
            assert await idle_reader.read() == b""
            assert await silent_reader.read() == b""
            held.go.set()
            reply = await read_reply(reader)
            assert (reply.status, reply.body) == (200, b"ok")
            assert reply.all(b"connection") == [b"close"]
            assert await reader.read() == b""
    assert told == ["waiting for 1 request; at most 20 s, or until a second signal"]


async def test_an_ending_gateway_says_what_it_waits_for(source: Source, origin: Origin) -> None:
    first, second = Held(stream=True), Held(stream=True)
    origin.scripts = [first, second]
    told: asyncio.Queue[str] = asyncio.Queue()
    loop = asyncio.get_running_loop()

    def tell(line: str) -> None:
        loop.call_soon_threadsafe(told.put_nowait, line)

    async with (
        running_gate(source, drain=PATIENCE, tell=tell) as gate,
        gate.open() as (reader, writer),
        gate.open() as (other_reader, other_writer),
    ):
        writer.write(gate.head(length=2) + b"{}")
        await reader.readuntil(b"\r\n\r\n")
        other_writer.write(gate.head(length=2) + b"{}")
        await other_reader.readuntil(b"\r\n\r\n")
        async with ending(gate):
            assert (await told.get()).startswith("waiting for 2 streams; ")
            first.go.set()
            assert b"message_stop" in await reader.read()
            assert (await told.get()).startswith("waiting for 1 stream; ")
            second.go.set()
            assert b"message_stop" in await other_reader.read()
    assert told.empty()


async def test_what_lies_unread_in_the_socket_is_answered_all_the_same(source: Source) -> None:
    async with running_gate(source, drain=PATIENCE) as gate, gate.open() as (reader, writer):
        writer.write(gate.head(b"/", method=b"GET"))
        await read_reply(reader)
        (connection,) = gate.listener.connections.all
        connection.transport.pause_reading()
        writer.write(gate.head(length=2) + b"{}")
        await writer.drain()
        connection.shutdown()
        assert not connection.transport.is_closing()
        gate.listener.connections.is_ending = True  # as the listener's end does
        connection.transport.resume_reading()
        reply = await read_reply(reader)
        assert reply.status == 200
        assert reply.all(b"connection") == [b"close"]


async def test_a_request_that_has_begun_to_arrive_is_answered(source: Source, origin: Origin) -> None:
    async with running_gate(source, drain=PATIENCE) as gate, gate.open() as (reader, writer):
        head = gate.head(length=2)
        writer.write(head[:20])
        await gate.call()
        async with ending(gate):
            writer.write(head[20:] + b"{}")
            assert (await read_reply(reader)).status == 200
            assert await reader.read() == b""
    assert len(origin.seen) == 2


async def test_pipelined_requests_that_were_read_are_all_answered(source: Source, origin: Origin) -> None:
    held = Held()
    origin.scripts = [held]
    async with running_gate(source, drain=PATIENCE) as gate, gate.open() as (reader, writer):
        writer.write((gate.head(length=2) + b"{}") * 3)
        await held.asked.wait()
        async with ending(gate):
            held.go.set()
            assert (await reader.read()).count(b"HTTP/1.1 200 ") == 3


async def test_after_the_time_for_it_a_stream_ends_in_an_error(source: Source, origin: Origin) -> None:
    origin.scripts = [Held(stream=True)]
    async with running_gate(source, drain=0.05) as gate, gate.open() as (reader, writer):
        writer.write(gate.head(length=2) + b"{}")
        await reader.readuntil(b"\r\n\r\n")
        gate.listener.stop()
        assert b"event: error" in await reader.read()


async def test_a_long_answer_to_a_slow_reader_is_not_cut(source: Source, origin: Origin) -> None:
    body = b"x" * (4 << 20)

    async def long(seen: Seen, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        writer.write(b"HTTP/1.1 200 OK\r\ncontent-length: %d\r\n\r\n" % len(body) + body)
        await writer.drain()

    origin.scripts = [long]
    async with running_gate(source, drain=PATIENCE) as gate, gate.open() as (reader, writer):
        writer.write(gate.head(length=2) + b"{}")
        head = await reader.readuntil(b"\r\n\r\n")
        async with ending(gate):
            assert len(await reader.readexactly(len(body))) == len(body)
        assert b"200" in head


async def test_a_disk_that_hangs_holds_up_neither_ticks_nor_the_end(source: Source) -> None:
    hung, seconds = asyncio.Event(), 0

    class Hangs(BaseLifespan):
        def every_second(self) -> None:
            nonlocal seconds
            seconds += 1

        async def every_minute(self) -> None:
            await hung.wait()

    async with running_gate(source) as gate:
        listener = gate.listener
        listener._lifespan = Hangs()
        for tick in range(590, 1210, 10):
            listener.tick(tick + 9)
            listener.tick(tick)
        assert seconds >= 62
        minutely = listener._minutely
        assert minutely is not None
        assert not minutely.done()
        listener.stop()
        hung.set()


WORKER = """
import os, signal, socket
from pathlib import Path
from types import SimpleNamespace
from tokenferry.gateway import *
from tokenferry.settings import RouterSettings

signal.signal(signal.SIGUSR1, signal.SIG_DFL)
sock, keys = bind("127.0.0.1", 0), EphemeralKey()
lifeline, _ = os.pipe()
source = SimpleNamespace(providers={}, listing=None)
forwarder = Forwarder(source=source, settings=RouterSettings(), keys=keys, upstreams=UpstreamClients())
class Ends(BaseLifespan):
    async def started(self):
        os.kill(os.getpid(), signal.SIGTERM)
slot = WorkerSlot(1, lifeline, 1)
gateway = Gateway(guard=Guard(keys, own_hosts("127.0.0.1", 1, ())), forwarder=forwarder)
ended = Server(gateway, [sock], drain=1.0, supervisor=slot, lifespan=Ends()).run_until_stopped()
for number in (signal.SIGTERM, signal.SIGUSR1):
    os.kill(os.getpid(), number)
print(ended.name, "and the refresh went on")
"""


async def test_no_further_signal_ends_a_worker_that_waits_for_a_refresh() -> None:
    process = await asyncio.create_subprocess_exec(sys.executable, "-c", WORKER, stdout=asyncio.subprocess.PIPE)
    async with asyncio.timeout(PATIENCE):
        said, _ = await process.communicate()
    assert (said.strip(), process.returncode) == (b"SIGTERM and the refresh went on", 0)


async def test_a_request_that_the_end_overtakes_is_recorded_as_it_was_answered(source: Source) -> None:
    async with running_gate(source) as gate, gate.open() as (reader, writer):
        writer.write(gate.head(length=10, headers=[(b"expect", b"100-continue")]) + b"{")
        assert b"100 Continue" in await reader.readuntil(b"\r\n\r\n")
        gate.listener.stop()
        assert (await read_reply(reader)).status == 503
        record = await gate.records.last()
    assert (record.status, record.error) == (503, "shutting_down")


async def test_a_gateway_that_is_about_to_end_says_so_and_still_takes_requests() -> None:
    async with running_gate(Source()) as gate:
        assert (await gate.call(b"/readyz", method=b"GET")).status == 200
        gate.listener.drain_for(0.0, delay=PATIENCE)
        gate.listener.stop()
        async with asyncio.timeout(PATIENCE):
            while (reply := await gate.call(b"/readyz", method=b"GET")).status == 200:
                pass
        assert (reply.status, json.loads(reply.body)["reason"]) == (503, "draining")
        assert (await gate.call(b"/healthz", method=b"GET")).status == 200
        gate.listener.drain_for(0.0)


def test_it_is_known_to_end_before_it_gives_up_its_port() -> None:
    """Or another program could take the port while the gateway's record still says that the port is the gateway's."""
    sock = bind("127.0.0.1", 0)
    open_then: list[bool] = []

    class StopsAtOnce(BaseLifespan):
        async def started(self) -> None:
            listener.stop()

        def ending(self) -> None:
            open_then.append(sock.fileno() >= 0)

    keys = EphemeralKey()
    forwarder = Forwarder(source=Source(), settings=RouterSettings(), keys=keys, upstreams=UpstreamClients())
    gateway = Gateway(guard=Guard(keys, own_hosts("127.0.0.1", 1, ())), forwarder=forwarder)
    listener = Server(gateway, [sock], drain=0.0, lifespan=StopsAtOnce())
    listener.run_until_stopped()
    assert (open_then, sock.fileno()) == ([True], -1)


def test_what_ends_only_with_the_loop_is_recorded() -> None:
    keys = EphemeralKey()
    forwarder = Forwarder(source=Source(), settings=RouterSettings(), keys=keys, upstreams=UpstreamClients())
    log = Records()
    gateway = Gateway(guard=Guard(keys, own_hosts("127.0.0.1", 1, ())), forwarder=forwarder, access_log=log)
    tasks: list[asyncio.Task[None]] = []

    async def linger() -> None:
        try:
            await asyncio.Event().wait()
        finally:
            gateway.add_record(RequestRecord("tf_1", "GET", "/"))

    class Lingers(BaseLifespan):
        async def started(self) -> None:
            tasks.append(asyncio.create_task(linger()))
            listener.stop()

    listener = Server(gateway, [bind("127.0.0.1", 0)], drain=0.0, lifespan=Lingers())
    listener.run_until_stopped()
    assert [record.request_id for record in log.all] == ["tf_1"]
