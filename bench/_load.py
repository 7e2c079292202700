"""A load generator: `python -m bench._load` reads a job as JSON from stdin and prints figures.

A job has `host` and `port`, `path`, `headers`, `connections`, the total number of `requests`, the `size` of each body,
and the `answer` to ask the origin for (see `_origin`), in which `SEED` becomes the request's number. With `fresh` each
request opens a connection. With `name` each request sends that name and its number in `x-id`. `arrives_as` is the
model's name at the origin. With `until_refused` the job runs until connections are refused. A broken connection is
replaced; its request is not sent again.

Times are in seconds from a request's first byte: `p50` and `p99` to the end of the response; `first_byte` and
`first_content` are medians to its first byte, and to a stream's first event after `message_start`. For timed streams
`delay_p50` and `delay_p99` measure from an event's sending to its arrival, without the first second, in which most
connections open. `cpu` is this process's CPU time.
"""

import asyncio
import json
import math
import resource
import sys
import time
from collections import Counter
from functools import cache
from hashlib import sha256
from statistics import median
from typing import Any, Final, cast
from zlib import crc32

import httptools
import uvloop

from bench._content import SENT_AT, START, digest, document, events, untimed

LONGEST: Final = 600.0
WARM_UP: Final = 1.0
MODEL: Final = b"claude-sonnet-5-5"


@cache
def expected(wish: str) -> str:
    """The sha256 of the expected response."""
    kind, *numbers = wish.split()
    if kind == "document":
        return sha256(document(int(numbers[0]))).hexdigest()
    return digest(events(int(numbers[0]), int(numbers[1]), is_timed="timed" in numbers))


def _message(size: int) -> bytes:
    frame = b'{"model":"' + MODEL + b'","max_tokens":50,"messages":[{"role":"user","content":"%b"}]}'
    return frame % (b"y" * (size - len(frame) + 2))


def _quantiles(times: list[float]) -> tuple[float, float]:
    """The median and the 99th percentile."""
    ordered = sorted(times) or [0.0]
    return ordered[len(ordered) // 2], ordered[len(ordered) * 99 // 100]


class Load:
    """The remaining requests, and the results of the others."""

    def __init__(self, job: dict[str, Any]) -> None:
        self.job = job
        self.left: int = job["requests"]
        self.number = 0
        self.working = 0
        self.is_refused = False
        self.results: Counter[str] = Counter()
        self.statuses: Counter[int] = Counter()
        self.answered: list[str] = []
        self.unanswered: list[str] = []
        self.latencies: list[float] = []
        self.delays: list[float] = []
        self.delays_from = math.inf
        """The monotonic time from which delays count."""
        self.first_bytes: list[float] = []
        self.first_contents: list[float] = []
        self.over = asyncio.get_running_loop().create_future()
        self.is_timed = "timed" in job["answer"]
        self.body = _message(job["size"])
        arriving = self.body.replace(MODEL, job.get("arrives_as", MODEL.decode()).encode())
        lines = {
            "host": f"{job['host']}:{job['port']}",
            "content-type": "application/json",
            "content-length": str(len(self.body)),
            "x-sum": f"{crc32(arriving):08x}",
            **job.get("headers", {}),
        }
        start = f"POST {job.get('path', '/v1/messages?beta=true')} HTTP/1.1\r\n"
        self.head = start + "".join(f"{name}: {value}\r\n" for name, value in lines.items())

    @property
    def is_done(self) -> bool:
        return self.is_refused or self.left == 0

    def request(self) -> tuple[int, str, list[bytes]]:
        """Take the next number; give it, the requested answer, and the bytes to write."""
        number = self.number
        self.number += 1
        self.left -= 1
        wish = self.job["answer"].replace("SEED", str(number))
        head = f"{self.head}x-answer: {wish}\r\n"
        if "name" in self.job:
            head += f"x-id: {self.job['name']}{number}\r\n"
        return number, wish, [f"{head}\r\n".encode(), self.body]

    async def run(self) -> dict[str, Any]:
        started, cpu = time.perf_counter(), time.process_time()
        for _ in range(self.job["connections"]):
            self.working += 1
            await self.connect()
        self.delays_from = time.monotonic() + WARM_UP
        await asyncio.wait_for(self.over, LONGEST)
        seconds = time.perf_counter() - started
        (p50, p99), (delay_p50, delay_p99) = _quantiles(self.latencies), _quantiles(self.delays)
        return {
            "seconds": seconds,
            "cpu": time.process_time() - cpu,
            "p50": p50,
            "p99": p99,
            "delay_p50": delay_p50,
            "delay_p99": delay_p99,
            "first_byte": median(self.first_bytes or [0.0]),
            "first_content": median(self.first_contents or [0.0]),
            **dict.fromkeys(("whole", "wrong", "cut", "unanswered"), 0),
            **self.results,
            "statuses": self.statuses,
            "answered_ids": self.answered,
            "unanswered_ids": self.unanswered,
        }

    async def connect(self) -> None:
        job = self.job
        if not self.is_done:
            try:
                await asyncio.get_running_loop().create_connection(lambda: Client(self), job["host"], job["port"])
            except OSError:
                if not job.get("until_refused"):
                    raise
                self.is_refused = True
            else:
                return
        self.working -= 1
        if not self.working:
            self.over.set_result(None)


class Client(asyncio.Protocol):
    """A connection; requests follow one another."""

    def __init__(self, load: Load) -> None:
        self.load = load
        self.number = -1
        self.has_byte = self.has_content = False
        self.is_waiting = False

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self.transport = cast("asyncio.Transport", transport)
        self.next()

    def next(self) -> None:
        if self.load.is_done:
            self.transport.close()
            return
        self.number, self.wish, parts = self.load.request()
        self.known = sha256()
        self.parts: list[bytes] = []
        self.parser = httptools.HttpResponseParser(self)
        self.has_byte = self.has_content = False
        self.size = 0
        self.is_waiting = True
        self.started = time.perf_counter()
        self.transport.writelines(parts)

    def data_received(self, data: bytes) -> None:
        if not self.has_byte:
            self.has_byte = True
            self.load.first_bytes.append(time.perf_counter() - self.started)
        self.parser.feed_data(data)

    def on_body(self, data: bytes) -> None:
        self.size += len(data)
        if not self.has_content and self.size > len(START):
            self.has_content = True
            self.load.first_contents.append(time.perf_counter() - self.started)
        if self.load.is_timed:
            self.parts.append(data)
            now = time.monotonic()
            if now >= self.load.delays_from:
                self.load.delays += [now - int(sent_at) / 1e9 for sent_at in SENT_AT.findall(data)]
        else:
            self.known.update(data)

    def on_message_complete(self) -> None:
        load = self.load
        if load.is_timed:
            self.known.update(untimed(b"".join(self.parts)))
        status = self.parser.get_status_code()
        load.statuses[status] += 1
        is_whole = status == 200 and self.known.hexdigest() == expected(self.wish)
        load.results["whole" if is_whole else "wrong"] += 1
        load.latencies.append(time.perf_counter() - self.started)
        if "name" in load.job and is_whole:
            load.answered.append(f"{load.job['name']}{self.number}")
        self.is_waiting = False
        if load.job.get("fresh") or not self.parser.should_keep_alive():
            self.transport.close()
        else:
            asyncio.get_running_loop().call_soon(self.next)

    def connection_lost(self, _: Exception | None) -> None:
        if self.is_waiting:
            self.is_waiting = False
            self.load.results["cut" if self.has_byte else "unanswered"] += 1
            if "name" in self.load.job and not self.has_byte:
                self.load.unanswered.append(f"{self.load.job['name']}{self.number}")
        loop = asyncio.get_running_loop()
        loop.create_task(self.load.connect())  # noqa: RUF006  # the loop outlives all of them


async def main() -> None:
    hard = resource.getrlimit(resource.RLIMIT_NOFILE)[1]
    resource.setrlimit(resource.RLIMIT_NOFILE, (hard, hard))
    print(json.dumps(await Load(json.load(sys.stdin)).run()))


if __name__ == "__main__":
    uvloop.run(main())
