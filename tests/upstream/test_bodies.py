"""Bodies of every shape in every framing, over real sockets: they arrive as they were sent, or it is a cut."""

import asyncio
import contextlib
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from itertools import pairwise
from typing import Self

import pytest
import uvloop
from hypothesis import given, settings
from hypothesis import strategies as st

from effort import effort
from tokenferry.upstream import AnswerCut, ResponseHead, UpstreamClient, UpstreamError

BLOCK = bytes(range(256)) * 300


@dataclass
class Answer:
    """What the peer says: `wire` in pieces, of which `left` bytes at the end are never sent."""

    method: str
    status: int
    body: bytes
    wire: bytes
    cuts: list[int]
    is_closing: bool
    left: int = 0

    @property
    def pieces(self) -> list[bytes]:
        end = len(self.wire) - self.left
        edges = sorted({0, end, *(cut for cut in self.cuts if cut < end)})
        return [self.wire[a:b] for a, b in pairwise(edges)]

    def truncated(self, left: int) -> Self:
        self.left = 1 + left % (len(self.wire) - 1)
        return self


BODIES = st.lists(st.binary(min_size=1, max_size=30) | st.sampled_from([BLOCK, b"\r\n", b"0\r\n\r\n"]), max_size=5)


@st.composite
def answers(draw: st.DrawFn, *, framings: tuple[str, ...] = ("length", "chunks", "end", "none", "head")) -> Answer:
    parts = draw(BODIES)
    body = b"".join(parts)
    framing = draw(st.sampled_from(framings))
    interim = draw(
        st.sampled_from([b"", b"HTTP/1.1 100 Continue\r\n\r\n", b"HTTP/1.1 103 Hints\r\nlink: x\r\n\r\n" * 2])
    )
    method, status, extra = "POST", 200, b""
    if framing == "length":
        lines, content = b"content-length: %d\r\n" % len(body), body
    elif framing == "chunks":
        extension, trailer = draw(st.sampled_from([b"", b";a=b", b';a="b"'])), draw(st.sampled_from([b"", b"x: y\r\n"]))
        chunks = b"".join(b"%x%b\r\n%b\r\n" % (len(part), extension, part) for part in parts)
        lines, content = b"Transfer-Encoding: chunked\r\n", chunks + b"0\r\n" + trailer + b"\r\n"
    elif framing == "end":
        lines, content = b"", body
    elif framing == "none":
        status, lines, content, body = draw(st.sampled_from([204, 304])), b"etag: x\r\n", b"", b""
    else:
        method, lines, content, body = "HEAD", b"content-length: %d\r\n" % len(body), b"", b""
    is_closing = framing == "end" or draw(st.booleans())
    if is_closing and framing != "end":
        extra = b"connection: close\r\n"
    wire = interim + b"HTTP/1.1 %d X\r\n%b%b\r\n%b" % (status, lines, extra, content)
    near_the_ends = st.integers(0, 400) | st.integers(max(len(wire) - 40, 0), len(wire))
    cuts = draw(st.lists(near_the_ends, max_size=30) | st.just(list(range(400))))
    return Answer(method, status, body, wire, cuts, is_closing)


@dataclass
class Taken:
    """A sink that asserts the order of what it is told."""

    over: asyncio.Event = field(default_factory=asyncio.Event)
    head: ResponseHead | None = None
    body: bytes = b""
    failure: UpstreamError | None = None

    def on_head(self, head: ResponseHead) -> None:
        assert self.head is None
        self.head = head

    def on_body(self, chunk: bytes) -> None:
        assert self.head is not None
        assert not self.over.is_set()
        self.body += chunk

    def on_end(self) -> None:
        assert self.head is not None
        assert not self.over.is_set()
        self.over.set()

    def on_failure(self, failure: UpstreamError) -> None:
        assert not self.over.is_set()
        self.failure = failure
        self.over.set()


class Rig:
    """One loop, one peer and one pool for all examples."""

    def __init__(self, runner: asyncio.Runner) -> None:
        self._runner = runner
        self._answer: Answer | None = None
        self._received = b""
        runner.run(self._start())

    async def _start(self) -> None:
        self._server = await asyncio.start_server(self._serve, "127.0.0.1", 0)
        port = self._server.sockets[0].getsockname()[1]
        self.upstream = UpstreamClient(f"http://127.0.0.1:{port}")

    def stop(self) -> None:
        self._runner.run(self.upstream.aclose())
        self._server.close()

    def exchange(self, answer: Answer, parts: list[bytes]) -> Taken:
        return self._runner.run(self._exchange(answer, parts))

    async def _exchange(self, answer: Answer, parts: list[bytes]) -> Taken:
        self._answer = answer
        taken = Taken()
        views: list[bytes | memoryview] = [memoryview(part) if i % 2 else part for i, part in enumerate(parts)]
        self.upstream.send(answer.method, b"/", [], views, taken)
        await asyncio.wait_for(taken.over.wait(), 20)
        assert self._received == b"".join(parts)
        return taken

    async def _serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        with contextlib.suppress(asyncio.IncompleteReadError, ConnectionError):
            while True:
                head = await reader.readuntil(b"\r\n\r\n")
                _, _, length = head.partition(b"content-length: ")
                self._received = await reader.readexactly(int(length or b"0"))
                assert self._answer is not None
                for piece in self._answer.pieces:
                    writer.write(piece)
                    await writer.drain()
                    await asyncio.sleep(0)
                if self._answer.is_closing or self._answer.left:
                    break
        writer.close()


@pytest.fixture(scope="module", params=[asyncio.new_event_loop, uvloop.new_event_loop], ids=["asyncio", "uvloop"])
def rig(request: pytest.FixtureRequest) -> Iterator[Rig]:
    factory: Callable[[], asyncio.AbstractEventLoop] = request.param
    with asyncio.Runner(loop_factory=factory) as runner:
        rig = Rig(runner)
        yield rig
        rig.stop()


@settings(max_examples=effort(150))
@given(exchanges=st.lists(st.tuples(answers(), BODIES), min_size=1, max_size=4))
def test_each_side_gets_what_the_other_sent(rig: Rig, exchanges: list[tuple[Answer, list[bytes]]]) -> None:
    for answer, parts in exchanges:
        taken = rig.exchange(answer, parts)
        assert taken.failure is None
        assert taken.head is not None
        assert (taken.head.status, taken.body) == (answer.status, answer.body)


@settings(max_examples=effort(150))
@given(answer=answers(framings=("length", "chunks", "none", "head")), left=st.integers(0, 10_000_000))
def test_no_truncated_answer_looks_complete(rig: Rig, answer: Answer, left: int) -> None:
    answer.truncated(left)
    taken = rig.exchange(answer, [])
    assert isinstance(taken.failure, AnswerCut)
    assert answer.body.startswith(taken.body)
    assert rig.upstream.statistics().in_flight == 0
