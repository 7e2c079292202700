"""A fake upstream that answers as each request asks: `python -m bench._origin`. It prints its port.

`x-answer` selects the response: `document SIZE`, or `stream SEED COUNT RATE`. COUNT 0 never ends. RATE is in events a
second; 0 sends all at once, and `0 MS` sends all of them MS milliseconds after `message_start`. A suffix ` held` starts
the response and then waits for `GET /release`; ` timed` adds the time of sending to each event. `x-sum`, if present, is
checked against the body's crc32. `x-id` is recorded when a request arrives and when its response ends. `GET /figures`
reads the counters, `GET /reset` clears them.
"""

import asyncio
import json
import resource
import time
from functools import cache, lru_cache
from typing import Any, cast
from zlib import crc32

import uvloop

from bench._content import START, STOP, delta, document

HEAD = b"HTTP/1.1 200 OK\r\ncontent-type: %b\r\n%b\r\n\r\n"
NEVER = 1 << 62


class Figures:
    """Counters. `lost` counts responses whose client disconnected before the end."""

    def __init__(self) -> None:
        self.held: list[Exchange] = []
        self.reset()

    def reset(self) -> None:
        self.requests = self.answered = self.wrong = self.lost = self.open = self.most_open = 0
        self.arrived: set[str] = set()
        self.finished: set[str] = set()

    def release(self) -> None:
        held, self.held = self.held, []
        for exchange in held:
            exchange.go_on()

    def to_json(self) -> dict[str, Any]:
        counted = ("requests", "answered", "wrong", "lost", "open", "most_open")
        return {name: getattr(self, name) for name in counted} | {
            "held": len(self.held),
            "arrived": sorted(self.arrived),
            "finished": sorted(self.finished),
        }


FIGURES = Figures()


@cache
def plain(size: int) -> bytes:
    return HEAD % (b"application/json", b"content-length: %d" % size) + document(size)


def chunk(data: bytes) -> bytes:
    return b"%x\r\n%b\r\n" % (len(data), data)


@lru_cache(maxsize=16)
def burst(seed: int, count: int) -> bytes:
    """Several events at once, one chunk each."""
    return b"".join(chunk(delta(seed, number)) for number in range(count))


class Exchange:
    """One response."""

    def __init__(self, transport: asyncio.Transport, wish: list[bytes], name: str) -> None:
        self.transport = transport
        self.kind, *numbers = wish
        self.name = name
        self.is_held = b"held" in numbers
        self.is_timed = b"timed" in numbers
        self.numbers = [int(number) for number in numbers if number.isdigit()]
        self.next = 0
        self.timer: asyncio.TimerHandle | None = None
        self.is_over = False
        FIGURES.requests += 1
        FIGURES.open += 1
        FIGURES.most_open = max(FIGURES.most_open, FIGURES.open)
        if name:
            FIGURES.arrived.add(name)

    def begin(self) -> None:
        if self.kind == b"stream":
            self.transport.write(HEAD % (b"text/event-stream", b"transfer-encoding: chunked") + chunk(START))
        if self.is_held:
            FIGURES.held.append(self)
        else:
            self.go_on()

    def go_on(self) -> None:
        if self.is_over:
            return
        if self.kind == b"document":
            self.transport.write(plain(self.numbers[0]))
            self.end()
            return
        loop = asyncio.get_running_loop()
        seed, count, rate, *milliseconds = self.numbers
        if milliseconds:
            self.timer = loop.call_later(milliseconds[0] / 1000, self.burst, seed, count)
            return
        if not rate:
            self.burst(seed, count)
            return
        self.seed, self.last = seed, count or NEVER
        self.pause = 1 / rate
        self.due = loop.time() + self.pause * (seed % 64) / 64
        self.timer = loop.call_at(self.due, self.tick)

    def burst(self, seed: int, count: int) -> None:
        self.transport.write(burst(seed, count))
        self.finish()

    def tick(self) -> None:
        if self.next == self.last:
            self.finish()
            return
        sent_at = time.monotonic_ns() if self.is_timed else None
        self.transport.write(chunk(delta(self.seed, self.next, sent_at)))
        self.next += 1
        self.due += self.pause
        self.timer = asyncio.get_running_loop().call_at(self.due, self.tick)

    def finish(self) -> None:
        self.transport.write(chunk(STOP) + b"0\r\n\r\n")
        self.end()

    def end(self) -> None:
        FIGURES.answered += 1
        if self.name:
            FIGURES.finished.add(self.name)
        self.close()

    def close(self) -> None:
        self.is_over = True
        FIGURES.open -= 1
        if self.timer is not None:
            self.timer.cancel()
        if self in FIGURES.held:
            FIGURES.held.remove(self)


class Connection(asyncio.Protocol):
    def __init__(self) -> None:
        self.buffer = bytearray()
        self.exchange: Exchange | None = None

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self.transport = cast("asyncio.Transport", transport)

    def connection_lost(self, _: Exception | None) -> None:
        if self.exchange is not None and not self.exchange.is_over:
            self.exchange.close()
            FIGURES.lost += 1

    def data_received(self, data: bytes) -> None:
        self.buffer += data
        while (end := self.buffer.find(b"\r\n\r\n")) >= 0:
            line, *lines = bytes(self.buffer[:end]).split(b"\r\n")
            headers = {name.lower(): value.strip() for name, _, value in (one.partition(b":") for one in lines)}
            begin = end + 4
            stop = begin + int(headers.get(b"content-length", 0))
            if len(self.buffer) < stop:
                return
            with memoryview(self.buffer) as view, view[begin:stop] as body:
                is_whole = b"x-sum" not in headers or int(headers[b"x-sum"], 16) == crc32(body)
            del self.buffer[:stop]
            self.answer(line.split()[1], headers, is_whole=is_whole)

    def answer(self, target: bytes, headers: dict[bytes, bytes], *, is_whole: bool) -> None:
        if target in {b"/figures", b"/reset", b"/release"}:
            body = json.dumps(FIGURES.to_json()).encode()
            if target != b"/figures":
                getattr(FIGURES, target[1:].decode())()
            self.transport.write(HEAD % (b"application/json", b"content-length: %d" % len(body)) + body)
            return
        FIGURES.wrong += not is_whole
        wish = headers.get(b"x-answer", b"document 2048").split()
        self.exchange = Exchange(self.transport, wish, headers.get(b"x-id", b"").decode())
        self.exchange.begin()


async def main() -> None:
    hard = resource.getrlimit(resource.RLIMIT_NOFILE)[1]
    resource.setrlimit(resource.RLIMIT_NOFILE, (hard, hard))
    loop = asyncio.get_running_loop()
    server = await loop.create_server(Connection, "127.0.0.1", 0, backlog=4096)
    print(server.sockets[0].getsockname()[1], flush=True)
    await server.serve_forever()


if __name__ == "__main__":
    uvloop.run(main())
