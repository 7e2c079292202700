import asyncio

import pytest

from tokenferry.gateway._gather import GatheringTransport

pytestmark = pytest.mark.anyio


class Sent(asyncio.Transport):
    """Keeps each write."""

    def __init__(self) -> None:
        super().__init__()
        self.writes: list[bytes | bytearray | memoryview] = []
        self.ends: list[str] = []

    def write(self, data: bytes | bytearray | memoryview) -> None:
        self.writes.append(data)

    def write_eof(self) -> None:
        self.ends.append("eof")

    def close(self) -> None:
        self.ends.append("close")

    def abort(self) -> None:
        self.ends.append("abort")

    def is_closing(self) -> bool:
        return bool({"close", "abort"} & set(self.ends))

    def get_write_buffer_size(self) -> int:
        return 10


async def test_what_comes_at_once_is_written_at_once() -> None:
    sent = Sent()
    transport = GatheringTransport(sent, asyncio.get_running_loop())
    transport.write(b"head")
    transport.write(b"body")
    assert (sent.writes, transport.get_write_buffer_size()) == ([], 18)
    await asyncio.sleep(0)
    assert sent.writes == [b"headbody"]
    transport.write(b"more")
    await asyncio.sleep(0)
    assert sent.writes == [b"headbody", b"more"]


@pytest.mark.parametrize("end", ["close", "write_eof"])
async def test_what_is_written_before_the_end_gets_out(end: str) -> None:
    sent = Sent()
    transport = GatheringTransport(sent, asyncio.get_running_loop())
    transport.write(b"last words")
    getattr(transport, end)()
    assert sent.writes == [b"last words"]
    await asyncio.sleep(0)
    assert sent.writes == [b"last words"]


async def test_after_an_abort_nothing_gets_out() -> None:
    sent = Sent()
    transport = GatheringTransport(sent, asyncio.get_running_loop())
    transport.write(b"never")
    transport.abort()
    transport.write(b"nor this")
    await asyncio.sleep(0)
    assert (sent.writes, sent.ends) == ([], ["abort"])
