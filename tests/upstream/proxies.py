"""Proxies on loopback: one that opens tunnels, whichever host is asked for, and pieces to script one with."""

import asyncio
import contextlib
import ssl
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

from tokenferry.upstream import Proxies

ESTABLISHED = b"HTTP/1.1 200 Connection established\r\n\r\n"
USER, PASSWORD = "ferry", "s3cret-p@ss/word"
USERINFO = "ferry:s3cret-p%40ss%2Fword"


def through(url: str, no_proxy: str = "") -> Proxies:
    return Proxies.from_environment({"HTTPS_PROXY": url, "NO_PROXY": no_proxy})


class Tunneller:
    """Leads every tunnel to one port of this machine, and keeps what it was asked and what it passed."""

    def __init__(self, port: int, tls: ssl.SSLContext | None = None) -> None:
        self._to = port
        self._tls = tls
        self._tasks: set[asyncio.Task[None]] = set()
        self._writers: list[asyncio.StreamWriter] = []
        self.heads: list[bytes] = []
        self.passed = bytearray()
        self.port = 0

    @property
    def place(self) -> str:
        return f"localhost:{self.port}"

    def url(self, userinfo: str = "") -> str:
        at = f"{userinfo}@" if userinfo else ""
        return f"{'https' if self._tls else 'http'}://{at}{self.place}"

    @asynccontextmanager
    async def running(self) -> AsyncIterator["Tunneller"]:
        server = await asyncio.start_server(self._accept, "127.0.0.1", 0, ssl=self._tls)
        self.port = server.sockets[0].getsockname()[1]
        try:
            yield self
        finally:
            server.close()
            for writer in self._writers:
                with contextlib.suppress(AttributeError):  # some versions of asyncio on what was closed twice
                    writer.transport.abort()
            if self._tasks:
                await asyncio.wait(self._tasks)

    async def _accept(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self._writers.append(writer)
        self.heads.append(await reader.readuntil(b"\r\n\r\n"))
        far_reader, far_writer = await asyncio.open_connection("127.0.0.1", self._to)
        self._writers.append(far_writer)
        writer.write(ESTABLISHED)
        for source, sink in ((reader, far_writer), (far_reader, writer)):
            task = asyncio.ensure_future(self._pass(source, sink))
            self._tasks.add(task)
            task.add_done_callback(self._tasks.discard)

    async def _pass(self, source: asyncio.StreamReader, sink: asyncio.StreamWriter) -> None:
        with contextlib.suppress(OSError):
            while data := await source.read(65536):
                self.passed += data
                sink.write(data)
                await sink.drain()
        sink.close()
