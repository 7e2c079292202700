"""A minimal relay in Python, as a lower bound: `python -m bench._bare PORT ORIGIN_PORT KEY`.

Two `asyncio.Protocol`s with httptools and uvloop: heads are parsed and rewritten with another key, a request's body is
read whole, and the response's body passes unchanged, framing included. It routes, checks, counts and logs nothing, and
doesn't notice a client that disconnects: the rest of tokenferry's cost is its own.
"""

import asyncio
import sys
from typing import Final, cast

import httptools
import uvloop

_REPLACED: Final = (b"host", b"content-length", b"connection", b"x-api-key", b"accept-encoding")

Header = tuple[bytes, bytes]


def _head(start: bytes, headers: list[Header], *more: bytes) -> bytes:
    return b"".join((start, *[b"%b: %b\r\n" % header for header in headers], *more, b"\r\n"))


class Client(asyncio.Protocol):
    """A client's connection; requests follow one another."""

    def __init__(self, relay: "Relay") -> None:
        self.relay = relay
        self.parser = httptools.HttpRequestParser(self)

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self.transport = cast("asyncio.Transport", transport)

    def data_received(self, data: bytes) -> None:
        self.parser.feed_data(data)

    def on_message_begin(self) -> None:
        self.url = b""
        self.headers: list[Header] = []
        self.body: list[bytes] = []

    def on_url(self, url: bytes) -> None:
        self.url += url

    def on_header(self, name: bytes, value: bytes) -> None:
        name = name.lower()
        if name not in _REPLACED:
            self.headers.append((name, value))

    def on_body(self, body: bytes) -> None:
        self.body.append(body)

    def on_message_complete(self) -> None:
        relay = self.relay
        start = b"%b %b HTTP/1.1\r\n" % (self.parser.get_method(), self.url)
        length = b"content-length: %d\r\n" % sum(map(len, self.body))
        request = (_head(start, self.headers, relay.lines, length), *self.body)
        if relay.idle:
            relay.idle.pop().send(self, request)
        else:
            relay.dial(self, request)


class Upstream(asyncio.Protocol):
    """A connection to the origin."""

    def __init__(self, relay: "Relay") -> None:
        self.relay = relay
        self.parser = httptools.HttpResponseParser(self)

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self.transport = cast("asyncio.Transport", transport)

    def connection_lost(self, _: Exception | None) -> None:
        if self in self.relay.idle:
            self.relay.idle.remove(self)

    def send(self, client: Client, request: tuple[bytes, ...]) -> None:
        self.client = client
        self.headers: list[Header] = []
        self.has_head = self.is_over = False
        self.transport.writelines(request)

    def data_received(self, data: bytes) -> None:
        had_head = self.has_head
        self.parser.feed_data(data)
        client = self.client.transport
        if had_head:
            client.write(data)
        elif self.has_head:
            start = b"HTTP/1.1 %d OK\r\n" % self.parser.get_status_code()
            client.write(_head(start, self.headers) + data[data.index(b"\r\n\r\n") + 4 :])
        if self.is_over:
            self.relay.idle.append(self)

    def on_header(self, name: bytes, value: bytes) -> None:
        self.headers.append((name.lower(), value))

    def on_headers_complete(self) -> None:
        self.has_head = True

    def on_message_complete(self) -> None:
        self.is_over = True


class Relay:
    def __init__(self, origin: int, key: str) -> None:
        self.origin = origin
        self.lines = b"host: 127.0.0.1:%d\r\naccept-encoding: identity\r\nx-api-key: %b\r\n" % (origin, key.encode())
        self.idle: list[Upstream] = []
        self.dials: set[asyncio.Task[None]] = set()

    def dial(self, client: Client, request: tuple[bytes, ...]) -> None:
        task = asyncio.get_running_loop().create_task(self._dial(client, request))
        self.dials.add(task)
        task.add_done_callback(self.dials.discard)

    async def _dial(self, client: Client, request: tuple[bytes, ...]) -> None:
        loop = asyncio.get_running_loop()
        _, upstream = await loop.create_connection(lambda: Upstream(self), "127.0.0.1", self.origin)
        upstream.send(client, request)


async def main() -> None:
    port, origin, key = sys.argv[1:]
    relay = Relay(int(origin), key)
    server = await asyncio.get_running_loop().create_server(lambda: Client(relay), "127.0.0.1", int(port), backlog=4096)
    await server.serve_forever()


if __name__ == "__main__":
    uvloop.run(main())
