"""How many Python calls of the package one warm request takes. The bounds are today's numbers: they only go down."""

import asyncio
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from types import FrameType
from typing import Any, cast

import pytest

import tokenferry
from gateway.rig import one_account, read_reply, running_gate

pytestmark = pytest.mark.anyio

PACKAGE = tokenferry.__path__[0]
BODY = b'{"model":"claude-sonnet-4-5","max_tokens":9,"stream":%b,"messages":[{"role":"user","content":"hi"}]}'
EVENTS = (
    b'{"type":"message_start","message":{"model":"claude-sonnet-4-5","usage":{"input_tokens":3}}}',
    b'{"type":"content_block_start","index":0,"content_block":{"type":"text","text":""}}',
    b'{"type":"content_block_delta","index":0,"delta":{"type":"text_delta","text":"hi"}}',
    b'{"type":"content_block_stop","index":0}',
    b'{"type":"message_delta","delta":{},"usage":{"output_tokens":2}}',
    b'{"type":"message_stop"}',
)


def stream(*events: bytes) -> bytes:
    """A streamed answer in one chunk."""
    body = b"".join(b"event: %b\ndata: %b\n\n" % (event.split(b'"')[3], event) for event in events)
    head = b"HTTP/1.1 200 OK\r\ncontent-type: text/event-stream\r\ntransfer-encoding: chunked\r\n\r\n"
    return b"%b%x\r\n%b\r\n0\r\n\r\n" % (head, len(body), body)


PLAIN = b'{"type":"message","model":"claude-sonnet-4-5","usage":{"input_tokens":3,"output_tokens":2}}'
ANSWERS = {
    "plain": b"HTTP/1.1 200 OK\r\ncontent-type: application/json\r\ncontent-length: %d\r\n\r\n%b" % (len(PLAIN), PLAIN),
    "streamed": stream(*EVENTS),
    "burst": stream(*EVENTS[:2], *EVENTS[2:3] * 50, *EVENTS[3:]),
}


class KeptOrigin(asyncio.Protocol):
    """Answers every request on a connection that it keeps."""

    def __init__(self, answer: bytes) -> None:
        self.answer = answer

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self.transport = cast("asyncio.Transport", transport)

    def data_received(self, data: bytes) -> None:
        if data.endswith(b"}"):
            self.transport.write(self.answer)


class Calls:
    """The calls of the package, by file, in order."""

    def __init__(self) -> None:
        self.files: list[str] = []

    def __call__(self, frame: FrameType, event: str, _: Any) -> None:
        if event == "call" and (name := frame.f_code.co_filename).startswith(PACKAGE):
            self.files.append(name)

    def figures(self) -> tuple[int, int, int]:
        """The calls, the files that they are in, and the moves from one file to another."""
        moves = sum(one != other for one, other in zip(self.files, self.files[1:], strict=False))
        return len(self.files), len(set(self.files)), moves


@contextmanager
def counting() -> Iterator[Calls]:
    calls, before = Calls(), sys.getprofile()
    sys.setprofile(calls)
    try:
        yield calls
    finally:
        sys.setprofile(before)


@pytest.mark.parametrize(("kind", "most_calls", "most_files"), [("plain", 130, 34), ("streamed", 162, 35)])
async def test_a_warm_request_takes_no_more_calls_and_files_than_today(
    kind: str, most_calls: int, most_files: int
) -> None:
    count, files, moves = await fewest_calls(kind)
    assert count <= most_calls, f"{count} calls in {files} files, with {moves} moves between files"
    assert files <= most_files


async def test_a_burst_of_events_in_one_read_takes_no_more_calls_than_a_single_one() -> None:
    assert (await fewest_calls("burst"))[0] <= (await fewest_calls("streamed"))[0]


async def fewest_calls(kind: str) -> tuple[int, int, int]:
    """The figures of the warm request that took the fewest: timers may fall into the others."""
    loop = asyncio.get_running_loop()
    server = await loop.create_server(lambda: KeptOrigin(ANSWERS[kind]), "127.0.0.1", 0)
    url = f"http://127.0.0.1:{server.sockets[0].getsockname()[1]}"
    body = BODY % (b"true" if kind != "plain" else b"false")
    found = []
    async with running_gate(one_account(url)) as gate, gate.open() as (reader, writer):
        for _ in range(30):
            with counting() as calls:
                writer.write(gate.head(length=len(body)) + body)
                reply = await read_reply(reader)
            assert reply.status == 200
            assert reply.complete
            found.append(calls.figures())
    server.close()
    return min(found)
