"""The bridge to ASGI, for the control plane."""

import asyncio
import logging
from collections import deque
from collections.abc import Iterable
from typing import TYPE_CHECKING, Any, Final
from urllib.parse import unquote

from tokenferry.gateway.app import NO_ROOM, REFUSED, REQUEST, UNIX
from tokenferry.gateway.http.client_api import api_of
from tokenferry.gateway.http.errors import REQUEST_ID, GatewayError
from tokenferry.gateway.http.handler import RequestLine
from tokenferry.gateway.http.headers import Header, lines_of
from tokenferry.gateway.http.request_id import new_request_id
from tokenferry.gateway.http.response_writer import ResponseWriter
from tokenferry.gateway.proxy.body import Application, Message

if TYPE_CHECKING:
    from tokenferry.gateway.server.connection import ClientConnection

logger = logging.getLogger("tokenferry.gateway")

_HIGH_WATER: Final = 64 * 1024
_VERSION: Final = {"version": "3.0", "spec_version": "2.3"}


class AsgiHandler:
    """A `RequestHandler` that runs an ASGI application in a task."""

    def __init__(
        self, application: Application, connection: "ClientConnection", head: RequestLine, writer: ResponseWriter
    ) -> None:
        self.writer = writer
        self._application = application
        self._connection = connection
        self._parts: deque[bytes] = deque()
        self._held = 0
        self._is_whole = self._is_delivered = self._is_gone = False
        self._event = asyncio.Event()
        self._can_write = asyncio.Event()
        self._can_write.set()
        self._task: asyncio.Task[None] | None = None
        transport = connection.transport
        self._request_id = new_request_id()
        self._scope: dict[str, Any] = {
            "type": "http",
            "asgi": _VERSION,
            "http_version": "1.1",
            "method": head.method,
            "scheme": "http" if transport.get_extra_info("ssl_object") is None else "https",
            "path": unquote(head.path.decode("ascii")),
            "raw_path": head.path,
            "query_string": head.target.partition(b"?")[2],
            "root_path": "",
            "headers": head.headers,
            "server": _address(transport.get_extra_info("sockname")),
            "client": _address(transport.get_extra_info("peername")),
            "state": {},
            NO_ROOM: not head.has_room,
            UNIX: head.address is None,
            REQUEST: self._request_id,
        }

    def take(self, chunk: bytes) -> None:
        self._parts.append(chunk)
        self._held += len(chunk)
        if self._held > _HIGH_WATER:
            self._connection.hold(is_deaf=True)
        self._event.set()

    def complete(self) -> None:
        self._is_whole = True
        self._event.set()

    def proceed(self) -> None:
        if self._task is None:
            tasks = self._connection.tasks
            self._task = asyncio.get_running_loop().create_task(self._run())
            tasks.add(self._task)
            self._task.add_done_callback(tasks.discard)

    def pause(self) -> None:
        self._can_write.clear()

    def resume(self) -> None:
        self._can_write.set()

    def refuse(self, error: GatewayError) -> None:
        self._scope[REFUSED] = error
        content = error.body(self._request_id, api_of(self._scope["raw_path"]))
        self.writer.keep = False
        headers = [*error.head(len(content)), (REQUEST_ID, self._request_id.encode("ascii"))]
        self.writer.start(error.status, *lines_of(headers))
        self.writer.write(content)
        self.writer.end()
        self.disconnected()

    def disconnected(self) -> None:
        self._is_gone = True
        self._event.set()
        self._can_write.set()
        self.proceed()  # also records a request whose turn never came; it gets no body

    async def _run(self) -> None:
        try:
            await self._application(self._scope, self._receive, self._send)
        except Exception:
            logger.exception("%s failed", self._request_id)
        if not self.writer.is_over:
            self.writer.cut()

    async def _receive(self) -> Message:
        if not self._is_whole:
            self.writer.go_on()
        while not self._has_ended:
            if self._parts or (self._is_whole and not self._is_delivered):
                body = b"".join(self._parts)
                self._parts.clear()
                self._held = 0
                self._is_delivered = self._is_whole
                return {"type": "http.request", "body": body, "more_body": not self._is_whole}
            self._event.clear()
            self._connection.hold(is_deaf=False)
            await self._event.wait()
        return {"type": "http.disconnect"}

    async def _send(self, message: Message) -> None:
        await self._can_write.wait()
        if self._has_ended:
            return
        if message["type"] == "http.response.start":
            self._start(message["status"], message.get("headers", []))
            return
        body = message.get("body", b"")
        if body:
            self.writer.write(body)
        if message.get("more_body", False):
            self.writer.flush()
        else:
            self.writer.end()
            self._event.set()

    def _start(self, status: int, headers: Iterable[Header]) -> None:
        passing = []
        for name, value in headers:
            lower = name.lower()
            if lower == b"connection":
                self.writer.keep = self.writer.keep and value.lower() != b"close"
            elif lower != b"transfer-encoding":
                passing.append((lower, value))
        self.writer.start(status, *lines_of(passing))

    @property
    def _has_ended(self) -> bool:
        return self._is_gone or self.writer.is_over


def _address(name: object) -> tuple[str, int] | None:
    """Give a socket's address in ASGI's form; None for a Unix socket."""
    return (str(name[0]), int(name[1])) if isinstance(name, tuple) else None
