"""Ambiguous, oversized and slow requests against the real listener."""

import asyncio
import json
import socket
from typing import Any

import pytest

from gateway.rig import Gate, Origin, Seen, Source, error_of, json_answer, read_reply, read_rest, running_gate
from tokenferry.gateway import BodyBudget
from tokenferry.gateway.proxy.exchange import Exchange
from tokenferry.gateway.server.connection import (
    HEAD_LIMIT,
    HEAD_SECONDS,
    HEADER_LIMIT,
    IDLE_SECONDS,
    READ_SECONDS,
    ClientConnection,
)

pytestmark = pytest.mark.anyio


def connections(gate: Gate) -> list[ClientConnection]:
    return list(gate.listener.connections.all)


@pytest.mark.parametrize(
    ("head", "status"),
    [
        (b"POST /v1/messages HTTP/1.1\r\nHost: HOST\r\nContent-Length: 2\r\nContent-Length: 2\r\n\r\n{}", 400),
        (b"POST /v1/messages HTTP/1.1\r\nHost: HOST\r\nContent-Length: 2\r\nTransfer-Encoding: chunked\r\n\r\n{}", 400),
        (b"POST /v1/messages HTTP/1.1\r\nHost: HOST\r\nTransfer-Encoding: gzip, chunked\r\n\r\n0\r\n\r\n", 400),
        (b"POST /v1/messages HTTP/1.1\r\nHost: HOST\r\nTransfer-Encoding: xchunked\r\n\r\n0\r\n\r\n", 400),
        (b"POST /v1/messages HTTP/1.1\r\nHost: HOST\r\nTransfer-Encoding: chunked\r\n\r\nzz\r\n\r\n", 400),
        (b"POST /v1/messages HTTP/1.1\r\nHost: HOST\r\nContent-Length: +2\r\n\r\n{}", 400),
        (b"GET / HTTP/1.1\r\nHost: HOST\r\nHost: HOST\r\n\r\n", 400),
        (b"GET / HTTP/1.1\r\n\r\n", 400),
        (b"GET http://HOST/ HTTP/1.1\r\nHost: HOST\r\n\r\n", 400),
        (b"CONNECT HOST HTTP/1.1\r\nHost: HOST\r\n\r\n", 400),
        (b"OPTIONS * HTTP/1.1\r\nHost: HOST\r\n\r\n", 400),
        (b"GET /#a HTTP/1.1\r\nHost: HOST\r\n\r\n", 400),
        (b"GET / HTTP/1.1\r\nHost: HOST\r\n folded: 1\r\n\r\n", 400),
        (b"GET / HTTP/1.1\r\nHost : HOST\r\n\r\n", 400),
        (b"GET / HTTP/1.1\nHost: HOST\n\n", 400),
        (b"GET / HTTP/1.1\r\nHost: HOST\rX: 1\r\n\r\n", 400),
        (b"GET / HTTP/1.1\r\nHost: HOST\r\nX: a\0b\r\n\r\n", 400),
        (b"GET /\xc3\xa4 HTTP/1.1\r\nHost: HOST\r\n\r\n", 400),
        (b"GET / HTTP/1.1\r\nHost: HOST\r\nConnection: upgrade\r\nUpgrade: websocket\r\n\r\n", 400),
        (b"GET / HTTP/1.0\r\nHost: HOST\r\n\r\n", 505),
        (b"GET / HTTP/2.0\r\nHost: HOST\r\n\r\n", 505),
        (b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n", 400),
        (b"\x16\x03\x01\x02\x00\x01\x00", 400),
        (b"GET / HTTP/1.1\r\nHost: HOST\r\n" + b"X: 1\r\n" * HEADER_LIMIT + b"\r\n", 431),
        (b"GET / HTTP/1.1\r\nHost: HOST\r\nX: " + b"a" * HEAD_LIMIT, 431),
        (b"GET / HTTP/1.1\r\nHost: HOST\r\nX: " + b"a" * HEAD_LIMIT + b"\r\n\r\n", 431),
        (b"GET / HTTP/1.1\r\nHost: HOST\r\nX: " + b"a" * (3 * HEAD_LIMIT) + b"\r\n\r\n", 431),
        (b"GET /" + b"a" * (HEAD_LIMIT + 1), 431),
    ],
)  # fmt: skip
async def test_what_could_be_read_in_two_ways_is_refused_and_the_connection_closed(
    gate: Gate, origin: Origin, head: bytes, status: int
) -> None:
    async with gate.open() as (reader, writer):
        writer.write(head.replace(b"HOST", gate.host))
        raw = await reader.read()
        assert raw.startswith(b"HTTP/1.1 %d " % status)
        assert b"connection: close\r\n" in raw
        document = json.loads(raw.partition(b"\r\n\r\n")[2])
        assert document["error"]["type"] == "invalid_request_error"
        assert origin.seen == []


async def test_an_endless_chunk_extension_is_cut(gate: Gate) -> None:
    async with gate.open() as (reader, writer):
        writer.write(gate.head(headers=[(b"transfer-encoding", b"chunked")]) + b"1;")
        for _ in range(16):
            writer.write(b"a" * HEAD_LIMIT)
        assert (await read_rest(reader))[:13] in {b"HTTP/1.1 431 ", b""}


async def test_trailers_are_dropped(gate: Gate, origin: Origin) -> None:
    head = gate.head(headers=[(b"transfer-encoding", b"chunked")])
    reply = await gate.raw(head + b"2\r\n{}\r\n0\r\nx-late: 1\r\nauthorization: Bearer x\r\n\r\n")
    assert reply.status == 200
    assert origin.seen[-1].body == b"{}"
    assert not origin.seen[-1].all(b"x-late")


async def test_garbage_behind_a_request_in_flight_does_not_answer_it(gate: Gate, origin: Origin) -> None:
    asked, lost = asyncio.Event(), asyncio.Event()

    async def waiting(seen: Seen, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        asked.set()
        await reader.read()
        lost.set()

    origin.scripts = [waiting]
    async with gate.open() as (reader, writer):
        writer.write(gate.head(length=2) + b"{}")
        await asked.wait()
        writer.write(b"\x00garbage\r\n\r\n")
        assert await read_rest(reader) == b""
        await lost.wait()


async def test_pipelined_requests_are_answered_in_order(gate: Gate, origin: Origin) -> None:
    async with gate.open() as (reader, writer):
        first, second = (gate.head(b"/v1/messages?%d" % number, length=8) + b'{"a": %d}' % number for number in (1, 2))
        writer.write(first + second)
        for _ in range(2):
            await reader.readuntil(b'{"ok":true}')
        assert [(seen.target, seen.body) for seen in origin.seen] == [
            (b"/v1/messages?1", b'{"a": 1}'),
            (b"/v1/messages?2", b'{"a": 2}'),
        ]


async def test_a_declared_length_above_the_cap_is_refused_before_reading(source: Source, origin: Origin) -> None:
    async with running_gate(source, body_limit=100) as gate, gate.open() as (reader, writer):
        writer.write(gate.head(length=101))
        reply = await read_reply(reader)
    assert reply.status == 413
    assert json.loads(reply.body)["error"]["type"] == "request_too_large"
    assert origin.seen == []


async def test_a_refused_body_is_read_away_so_that_the_connection_lives_on(source: Source) -> None:
    async with running_gate(source, body_limit=100) as gate, gate.open() as (reader, writer):
        writer.write(gate.head(length=1 << 20) + b"x" * (1 << 20))
        assert (await read_reply(reader)).status == 413
        writer.write(gate.head(length=2) + b"{}")
        assert (await read_reply(reader)).status == 200


async def test_an_undeclared_length_is_capped_while_it_is_read(source: Source, origin: Origin) -> None:
    async with running_gate(source, body_limit=100) as gate:
        head = gate.head(headers=[(b"transfer-encoding", b"chunked")])
        reply = await gate.raw(head + b"65\r\n" + b"x" * 101 + b"\r\n0\r\n\r\n")
        assert gate.gateway.statistics().held_bytes == 0
    assert reply.status == 413
    assert origin.seen == []


async def test_the_bodies_of_one_key_are_capped_at_half_of_all(source: Source, origin: Origin) -> None:
    async with running_gate(source, budget=BodyBudget(200)) as gate:
        refused = await gate.call(body=b"{}" + b" " * 99)
        passed = await gate.call(body=b"{}" + b" " * 98)
    assert refused.status == 503
    assert refused.all(b"x-should-retry") == [b"true"]
    assert refused.all(b"retry-after") == [b"1"]
    assert passed.status == 200


async def test_bodies_are_given_up_as_soon_as_the_answer_begins(gate: Gate, origin: Origin) -> None:
    async def endless(seen: Seen, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        writer.write(b"HTTP/1.1 200 OK\r\ncontent-type: text/event-stream\r\n\r\nevent: a\ndata: 1\n\n")
        await reader.read()

    origin.scripts = [endless]
    async with gate.open() as (reader, writer):
        writer.write(gate.head(length=1000) + b"{}" + b" " * 998)
        await reader.readuntil(b"data: 1\n\n")
        assert gate.gateway.statistics().held_bytes == 0
        assert gate.gateway.statistics().in_flight == 1


async def test_expect_continue_is_answered_before_the_body(gate: Gate, origin: Origin) -> None:
    async with gate.open() as (reader, writer):
        writer.write(gate.head(headers=[(b"expect", b"100-continue")], length=2))
        assert await reader.readuntil(b"\r\n\r\n") == b"HTTP/1.1 100 Continue\r\n\r\n"
        writer.write(b"{}")
        assert (await read_reply(reader)).status == 200
        assert not origin.seen[-1].all(b"expect")


async def test_a_refusal_instead_of_continue_closes_the_connection(gate: Gate) -> None:
    async with gate.open() as (reader, writer):
        writer.write(gate.head(headers=[(b"expect", b"100-continue"), (b"x-api-key", b"wrong")], length=2))
        raw = await reader.read()
        assert raw.startswith(b"HTTP/1.1 401 ")
        assert b"connection: close" in raw


@pytest.mark.parametrize("sent", [b"", b"POST /v1/mess"])
async def test_a_slow_head_is_cut(gate: Gate, sent: bytes) -> None:
    async with gate.open() as (reader, writer):
        writer.write(sent)
        # An answered request on another connection: by then this one's bytes have been read.
        await gate.call()
        late = asyncio.get_running_loop().time() + HEAD_SECONDS
        for connection in connections(gate):
            connection.expire(late)
        assert await read_rest(reader) == b""


async def test_a_slow_body_is_cut_and_a_slow_answer_is_not(gate: Gate, origin: Origin) -> None:
    asked, go = asyncio.Event(), asyncio.Event()

    async def waiting(seen: Seen, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        asked.set()
        await go.wait()
        writer.write(b"HTTP/1.1 200 OK\r\ncontent-length: 0\r\n\r\n")

    origin.scripts = [waiting]
    async with gate.open() as (slow_reader, slow_writer), gate.open() as (reader, writer):
        slow_writer.write(gate.head(length=2) + b"{")
        writer.write(gate.head(length=2) + b"{}")
        await asked.wait()
        for connection in connections(gate):
            connection.expire(asyncio.get_running_loop().time() + 86_400)
        assert await read_rest(slow_reader) == b""
        go.set()
        assert (await read_reply(reader)).status == 200


async def test_small_writes_are_not_held_back(gate: Gate) -> None:
    async with gate.open() as (reader, writer):
        writer.write(gate.head(b"/", method=b"GET"))
        await read_reply(reader)
        (connection,) = connections(gate)
        sock = connection.transport.get_extra_info("socket")
        assert sock.getsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY)


async def test_blank_lines_do_not_keep_an_idle_connection(gate: Gate) -> None:
    async with gate.open() as (reader, writer):
        writer.write(gate.head(b"/", method=b"GET"))
        await read_reply(reader)
        writer.write(b"\r\n")
        await gate.call()
        for connection in connections(gate):
            connection.expire(asyncio.get_running_loop().time() + IDLE_SECONDS)
        assert await read_rest(reader) == b""


async def test_an_idle_connection_is_closed_after_a_while(gate: Gate) -> None:
    async with gate.open() as (reader, writer):
        writer.write(gate.head(b"/", method=b"GET"))
        await read_reply(reader)
        (connection,) = connections(gate)
        now = asyncio.get_running_loop().time()
        connection.expire(now + IDLE_SECONDS - 5)
        assert not connection.transport.is_closing()
        connection.expire(now + IDLE_SECONDS)
        assert await reader.read() == b""


async def test_a_client_that_never_reads_costs_little_memory_and_is_cut(gate: Gate, origin: Origin) -> None:
    sent = 0
    stalled, left = asyncio.Event(), asyncio.Event()

    async def endless(seen: Seen, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        nonlocal sent
        writer.write(b"HTTP/1.1 200 OK\r\ncontent-type: text/event-stream\r\n\r\n")
        while True:
            writer.write(b"event: a\ndata: " + b"x" * 65_536 + b"\n\n")
            sent += 65_536
            try:
                async with asyncio.timeout(0.5):
                    await writer.drain()
            except TimeoutError:
                break
        stalled.set()
        await read_rest(reader)
        left.set()

    origin.scripts = [endless]
    async with gate.open() as (_, writer):
        writer.transport.pause_reading()  # type: ignore[attr-defined]  # a read transport, as its class doesn't say
        writer.write(gate.head(length=2) + b"{}")
        await stalled.wait()
        (connection,) = connections(gate)
        assert connection.transport.get_write_buffer_size() < 1 << 20
        assert sent < 64 << 20  # the kernels' buffers, mostly
        connection.expire(asyncio.get_running_loop().time() + READ_SECONDS)
        await left.wait()


async def test_at_the_limit_the_longest_idle_connection_gives_way(source: Source) -> None:
    async with (
        running_gate(source, connections=2) as gate,
        gate.open() as (old_reader, old_writer),
        gate.open() as (reader, writer),
    ):
        old_writer.write(gate.head(b"/", method=b"GET"))
        await read_reply(old_reader)
        writer.write(gate.head(b"/", method=b"GET"))
        await read_reply(reader)
        assert (await gate.call()).status == 200
        assert await old_reader.read() == b""


async def test_if_no_connection_is_idle_one_request_too_many_gets_an_error(source: Source, origin: Origin) -> None:
    asked, go = asyncio.Event(), asyncio.Event()

    async def waiting(seen: Seen, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        asked.set()
        await go.wait()
        writer.write(b"HTTP/1.1 200 OK\r\ncontent-length: 0\r\n\r\n")

    origin.scripts = [waiting]
    async with running_gate(source, connections=2) as gate, gate.open() as (reader, writer):
        writer.write(gate.head(length=2) + b"{}")
        await asked.wait()
        body = b"x" * (1 << 20)
        refused = await gate.call(body=body)
        assert refused.status == 503
        assert refused.all(b"retry-after") == [b"1"]
        assert refused.all(b"x-should-retry") == [b"true"]
        assert "at its limit of connections" in error_of(refused.body)["message"]
        go.set()
        assert (await read_reply(reader)).status == 200
        assert (await gate.call()).status == 200


async def test_garbage_behind_a_queued_request_answers_neither(gate: Gate, origin: Origin) -> None:
    asked, lost = asyncio.Event(), asyncio.Event()

    async def waiting(seen: Seen, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        asked.set()
        await reader.read()
        lost.set()

    origin.scripts = [waiting]
    async with gate.open() as (reader, writer):
        chunked = gate.head(headers=[(b"transfer-encoding", b"chunked")])
        writer.write(gate.head(length=2) + b"{}" + chunked)
        await asked.wait()
        connections(gate)[0].data_received(b"zz\r\n")  # it isn't read from the socket while a request is in flight
        assert await read_rest(reader) == b""
        await lost.wait()


async def test_pipelined_requests_are_not_read_while_one_is_in_flight(gate: Gate, origin: Origin) -> None:
    asked, go = asyncio.Event(), asyncio.Event()

    async def waiting(seen: Seen, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        asked.set()
        await go.wait()
        writer.write(b"HTTP/1.1 200 OK\r\ncontent-length: 0\r\n\r\n")

    origin.scripts = [waiting, json_answer()]
    async with gate.open() as (reader, writer):
        writer.write(gate.head(length=2) + b"{}" + gate.head(length=2 + (1 << 20)) + b"{}")
        await asked.wait()
        for _ in range(16):
            writer.write(b" " * 65_536)
        await gate.call(b"/", method=b"GET")
        (connection,) = [one for one in connections(gate) if one.is_answering]
        assert connection.is_deaf
        assert gate.gateway.statistics().held_bytes <= 256 * 1024 + 2
        go.set()
        assert (await read_reply(reader)).status == 200
        assert (await read_reply(reader)).status == 200
    assert len(origin.seen[-1].body) == 2 + (1 << 20)


async def test_a_request_that_breaks_the_gateway_takes_no_other_with_it(
    gate: Gate, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Requests that have come at once are gone on with one after the other."""
    proceed = Exchange.proceed

    def broken(self: Exchange) -> None:
        if b"?broken" in self._head.target:
            raise RuntimeError
        proceed(self)

    monkeypatch.setattr(Exchange, "proceed", broken)
    told: list[dict[str, Any]] = []
    asyncio.get_running_loop().set_exception_handler(lambda _, context: told.append(context))
    async with gate.open() as (first, to_first), gate.open() as (second, to_second):
        to_first.write(gate.head(b"/v1/messages?broken", length=2) + b"{}")
        to_second.write(gate.head(length=2) + b"{}")
        assert await read_rest(first) == b""
        assert (await read_reply(second)).status == 200
    assert [type(one["exception"]) for one in told] == [RuntimeError]


async def test_of_a_body_that_its_head_refuses_no_more_than_one_read_is_kept(gate: Gate) -> None:
    """More may be read before the loop goes on with anything."""
    async with gate.open() as (reader, writer):
        writer.write(gate.head(b"/", method=b"GET"))
        await read_reply(reader)
        (connection,) = connections(gate)
        connection.data_received(gate.head(headers=[(b"x-api-key", b"wrong")], length=1 << 20) + bytes(100))
        assert gate.gateway.budget.held == 100
        for _ in range(3):
            connection.data_received(bytes(100))
            assert gate.gateway.budget.held == 0
        assert (await read_reply(reader)).status == 401


@pytest.mark.parametrize("ahead", [0, 1])
@pytest.mark.parametrize("target", [b"/", b"/v1/models"])
async def test_a_request_whose_client_leaves_before_its_turn_is_recorded(gate: Gate, target: bytes, ahead: int) -> None:
    async with gate.open() as (reader, writer):
        writer.write(gate.head(b"/", method=b"GET"))
        await read_reply(reader)
        (connection,) = connections(gate)
        connection.data_received(gate.head(target, method=b"GET") * (ahead + 1))
        connection.transport.abort()
        await gate.records.last(ahead + 2)
    assert [record.path for record in gate.records.all] == ["/", *[target.decode()] * (ahead + 1)]
