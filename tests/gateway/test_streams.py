"""Answers that take their time: what reaches the client when, and how they end."""

import asyncio

import pytest

from gateway.rig import (
    Gate,
    Origin,
    Seen,
    answering,
    error_of,
    one_account,
    read_reply,
    read_rest,
    running_gate,
)
from tokenferry.upstream import Timeouts

pytestmark = pytest.mark.anyio


STOP = b'event: message_stop\ndata: {"type": "message_stop"}\n\n'


async def test_an_event_reaches_the_client_before_the_next_is_made(gate: Gate, origin: Origin) -> None:
    arrived = asyncio.Event()

    async def script(seen: Seen, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        writer.write(b"HTTP/1.1 200 OK\r\ncontent-type: text/event-stream; charset=utf-8\r\n\r\nevent: a\ndata: 1\n\n")
        await arrived.wait()
        writer.write(STOP)

    origin.scripts = [script]
    async with gate.open() as (reader, writer):
        writer.write(gate.head(length=2) + b"{}")
        await reader.readuntil(b"data: 1\n\n")
        arrived.set()
        await reader.readuntil(STOP + b"\r\n0\r\n\r\n")


@pytest.mark.parametrize(
    "events",
    [
        b"",
        b"event: content_block_delta\ndata: {}\n\n",
        b'data: {"type":"content_block_delta","delta":{"text":"\\"message_stop\\""}}\n\n',
        b"event: message_stop\ndata: {}\n\nevent: message_start\ndata: {}\n\n",
        b'event: content_block_start\ndata: {"content_block":{"input":{"type":"error"},"x":"message_stop"}}\n\n',
    ],
)
async def test_a_stream_that_ends_early_of_its_own_accord_ends_in_an_error(
    gate: Gate, origin: Origin, events: bytes
) -> None:
    async def script(seen: Seen, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        head = b"HTTP/1.1 200 OK\r\ncontent-type: text/event-stream\r\ntransfer-encoding: chunked\r\n\r\n"
        framed = b"%x\r\n%b\r\n" % (len(events), events) if events else b""
        writer.write(head + framed + b"0\r\n\r\n")

    origin.scripts = [script]
    reply = await gate.call(body=b"{}")
    assert reply.body.startswith(events)
    assert reply.body.removeprefix(events).startswith(b"event: error\ndata: {")


@pytest.mark.parametrize(
    "ending",
    [
        b"event: message_stop\ndata: {}\n\n",
        b'data: {"type": "message_stop"}\r\n\r\n',
        b"event: message_stop\ndata: {}\n\nevent: ping\ndata: {}\n\n: bye\n\n",
        b"event: message_stop\ndata: {}\n\n\n",
        b"event: message_stop\ndata: {}\n",
        b'data: {"type": "error"}\r\n\r\n',
    ],
)
async def test_a_stream_that_ends_as_it_should_is_left_as_it_is(gate: Gate, origin: Origin, ending: bytes) -> None:
    async def script(seen: Seen, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        writer.write(b"HTTP/1.1 200 OK\r\ncontent-type: text/event-stream\r\n\r\nevent: a\ndata: 1\n\n" + ending)

    origin.scripts = [script]
    reply = await gate.call(body=b"{}")
    assert reply.body == b"event: a\ndata: 1\n\n" + ending


async def test_a_stream_has_the_shorter_time_for_its_first_byte(origin: Origin) -> None:
    async def silent(seen: Seen, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await reader.read()

    origin.scripts = [silent]
    async with running_gate(one_account(origin.url), timeouts=Timeouts(first_byte_stream=0.05)) as gate:
        reply = await gate.call(body=b'{"model": "m", "stream" : true}')
    assert reply.status == 504


@pytest.mark.parametrize(
    "raw",
    [
        b"HTTP/1.1 200 OK\r\ncontent-type: application/json\r\ncontent-length: 100\r\n\r\n{",
        b"HTTP/1.1 200 OK\r\ncontent-type: application/json\r\ntransfer-encoding: chunked\r\n\r\n1\r\n{\r\n",
        b"HTTP/1.1 200 OK\r\ncontent-type: text/event-stream\r\ncontent-encoding: gzip\r\ncontent-length: 9\r\n\r\n{",
    ],
)
async def test_a_cut_answer_never_looks_complete(gate: Gate, origin: Origin, raw: bytes) -> None:
    origin.scripts = [answering(raw)]
    reply = await gate.call()
    assert (reply.status, reply.body, reply.complete) == (200, b"{", False)


@pytest.mark.parametrize("tail", [b"", b"event: b", b'event: b\ndata: {"half', b"event: b\ndata: {}\n"])
async def test_a_cut_stream_ends_with_an_error_event(gate: Gate, origin: Origin, tail: bytes) -> None:
    whole = b"event: a\ndata: {}\n\n"
    head = b"HTTP/1.1 200 OK\r\ncontent-type: text/event-stream\r\ntransfer-encoding: chunked\r\n\r\n"
    origin.scripts = [answering(head + b"%x\r\n%b\r\n" % (len(whole + tail), whole + tail))]
    reply = await gate.call()
    assert reply.complete
    assert reply.body.startswith(whole + b"event: error\ndata: ")
    assert error_of(reply.body.removeprefix(whole + b"event: error\ndata: "))["type"] == "api_error"
    assert reply.body.endswith(b"\n\n")
    assert b"message_stop" not in reply.body


async def test_a_huge_event_that_is_cut_becomes_the_error_itself(
    gate: Gate, origin: Origin, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("tokenferry.streaming._body_filter._ANSWER_LIMIT", 500_000)
    event = b"event: a\ndata: " + b"x" * 600_000
    head = b"HTTP/1.1 200 OK\r\ncontent-type: text/event-stream\r\ntransfer-encoding: chunked\r\n\r\n"
    origin.scripts = [answering(head + b"%x\r\n%b" % (len(event) + 1, event))]
    reply = await gate.call()
    assert reply.complete
    assert reply.body.startswith(event + b"\nevent: error\ndata: ")


async def test_a_client_that_leaves_while_waiting_ends_the_upstream_call(gate: Gate, origin: Origin) -> None:
    asked, lost = asyncio.Event(), asyncio.Event()

    async def waiting(seen: Seen, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        asked.set()
        await reader.read()
        lost.set()

    origin.scripts = [waiting]
    async with gate.open() as (_, writer):
        writer.write(gate.head(length=2) + b"{}")
        await asked.wait()
        writer.close()
        await lost.wait()


async def test_a_client_that_leaves_in_the_middle_ends_the_upstream_call(gate: Gate, origin: Origin) -> None:
    lost = asyncio.Event()

    async def endless(seen: Seen, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        writer.write(b"HTTP/1.1 200 OK\r\ncontent-type: text/event-stream\r\n\r\nevent: a\ndata: 1\n\n")
        await reader.read()
        lost.set()

    origin.scripts = [endless]
    async with gate.open() as (reader, writer):
        writer.write(gate.head(length=2) + b"{}")
        await reader.readuntil(b"data: 1\n\n")
        assert gate.gateway.statistics().streams == 1
        writer.close()
        await lost.wait()
    record = await gate.records.last()
    assert (record.status, record.upstream_status, record.account, record.error) == (499, 200, "alice", "client_gone")
    assert gate.gateway.statistics().streams == 0


async def test_a_client_that_does_not_read_pauses_the_upstream(gate: Gate, origin: Origin) -> None:
    size, sent = 64 << 20, 0
    stuck = asyncio.Event()

    async def flood(seen: Seen, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        nonlocal sent
        writer.write(b"HTTP/1.1 200 OK\r\ncontent-length: %d\r\n\r\n" % size)
        while sent < size:
            writer.write(b"x" * (1 << 16))
            sent += 1 << 16
            try:
                async with asyncio.timeout(0.3):
                    await writer.drain()
            except TimeoutError:
                stuck.set()
                await writer.drain()

    origin.scripts = [flood]
    async with gate.open() as (reader, writer):
        writer.write(gate.head(length=2) + b"{}")
        await stuck.wait()
        assert sent < size / 2
        reply = await read_reply(reader)
        assert (len(reply.body), reply.complete) == (size, True)


async def test_shutting_down_ends_a_stream_truthfully(origin: Origin) -> None:
    async def endless(seen: Seen, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        writer.write(b"HTTP/1.1 200 OK\r\ncontent-type: text/event-stream\r\n\r\nevent: a\ndata: 1\n\n")
        await reader.read()

    origin.scripts = [endless]
    async with running_gate(one_account(origin.url)) as gate, gate.open() as (reader, writer):
        writer.write(gate.head(length=2) + b"{}")
        await reader.readuntil(b"data: 1\n\n")
        gate.listener.stop()
        rest = await read_rest(reader)
    assert b"event: error" in rest
    assert rest.endswith(b"0\r\n\r\n")
