"""CPU per request of the gateway's HTTP client and of httpx2, for 2 kB responses: `python -m bench.upstream`."""

import asyncio
import subprocess
import sys
import time
from collections.abc import Awaitable, Callable
from typing import cast

import httpx2
import uvloop

from tokenferry.upstream import ResponseHead, UpstreamClient, UpstreamError

BODY = b"x" * 2048
ANSWER = b"HTTP/1.1 200 OK\r\ncontent-type: application/json\r\ncontent-length: %d\r\n\r\n" % len(BODY) + BODY
REQUEST = b"y" * 2048
HEADERS = [
    (b"authorization", b"Bearer " + b"z" * 100),
    (b"content-type", b"application/json"),
    (b"anthropic-version", b"2023-06-01"),
    (b"anthropic-beta", b"a-2025-01-01,b-2025-01-01,c-2025-01-01"),
    (b"user-agent", b"bench/1"),
    (b"accept", b"application/json"),
    (b"accept-encoding", b"identity"),
]
CONCURRENCY = 16
REQUESTS = {"call-backs": 40_000, "httpx2": 1_600}
ROUNDS = 3


class Server(asyncio.Protocol):
    """Answers every 2 kB request, checking only its length."""

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self.transport = cast("asyncio.Transport", transport)
        self.need = 0
        self.buffer = b""

    def data_received(self, data: bytes) -> None:
        self.buffer += data
        while (end := self.buffer.find(b"\r\n\r\n")) >= 0 and len(self.buffer) >= end + 4 + len(REQUEST):
            self.buffer = self.buffer[end + 4 + len(REQUEST) :]
            self.transport.write(ANSWER)


async def serve() -> None:
    server = await asyncio.get_running_loop().create_server(Server, "127.0.0.1", 0)
    print(server.sockets[0].getsockname()[1], flush=True)
    await server.serve_forever()


class Worker:
    """Sends the next request from inside `on_end`, as the gateway does."""

    def __init__(self, upstream: UpstreamClient, count: int) -> None:
        self.upstream = upstream
        self.left = count
        self.size = 0
        self.over = asyncio.get_running_loop().create_future()
        self.next()

    def next(self) -> None:
        self.left -= 1
        self.upstream.send("POST", b"/v1/messages", HEADERS, REQUEST, self)

    def on_head(self, head: ResponseHead) -> None:
        assert head.status == 200

    def on_body(self, chunk: bytes) -> None:
        self.size += len(chunk)

    def on_end(self) -> None:
        if self.left:
            self.next()
        else:
            self.over.set_result(self.size)

    def on_failure(self, failure: UpstreamError) -> None:
        self.over.set_exception(failure)


async def by_call_backs(origin: str, each: int) -> int:
    upstream = UpstreamClient(origin)
    sizes = await asyncio.gather(*(Worker(upstream, each).over for _ in range(CONCURRENCY)))
    await upstream.aclose()
    return sum(sizes)


async def by_httpx2(origin: str, each: int) -> int:
    async with httpx2.AsyncClient(base_url=origin, trust_env=False) as client:

        async def work() -> int:
            size = 0
            for _ in range(each):
                async with client.stream("POST", "/v1/messages", headers=HEADERS, content=REQUEST) as response:
                    async for chunk in response.aiter_raw():
                        size += len(chunk)
            return size

        return sum(await asyncio.gather(*(work() for _ in range(CONCURRENCY))))


WAYS: dict[str, Callable[[str, int], Awaitable[int]]] = {
    "call-backs": by_call_backs,
    "httpx2": by_httpx2,
}


async def compare(origin: str) -> None:
    best = dict.fromkeys(WAYS, float("inf"))
    for _ in range(ROUNDS):
        for name, way in WAYS.items():
            each = REQUESTS[name] // CONCURRENCY
            start = time.process_time()
            size = await way(origin, each)
            spent = time.process_time() - start
            assert size == each * CONCURRENCY * len(BODY)
            best[name] = min(best[name], spent / (each * CONCURRENCY))
    for name, seconds in best.items():
        print(f"{name:12} {seconds * 1e6:8.1f} us CPU a request   {best['httpx2'] / seconds:6.1f} x httpx2")


def main() -> None:
    if "--serve" in sys.argv:
        uvloop.run(serve())
        return
    with subprocess.Popen([sys.executable, "-m", "bench.upstream", "--serve"], stdout=subprocess.PIPE) as server:
        try:
            assert server.stdout is not None
            uvloop.run(compare(f"http://127.0.0.1:{int(server.stdout.readline())}"))
        finally:
            server.terminate()


if __name__ == "__main__":
    main()
