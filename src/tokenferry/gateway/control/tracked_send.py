from collections.abc import Callable

from tokenferry.gateway.http.errors import REQUEST_ID
from tokenferry.gateway.http.headers import Header
from tokenferry.gateway.proxy.body import Send
from tokenferry.gateway.telemetry.record import RequestRecord


class TrackedSend:
    """The client's side of one exchange. The record is told what goes out, and when; `clock` gives seconds."""

    __slots__ = ("_clock", "_record", "_send", "_started", "is_started")

    def __init__(self, send: Send, record: RequestRecord, clock: Callable[[], float]) -> None:
        self._send = send
        self._record = record
        self._clock = clock
        self._started = clock()
        self.is_started = False

    async def head(self, status: int, headers: list[Header]) -> None:
        record = self._record
        self.is_started = True
        record.status = status
        record.first_byte = self._clock() - self._started
        headers = [*headers, (REQUEST_ID, record.request_id.encode("ascii"))]
        await self._send({"type": "http.response.start", "status": status, "headers": headers})

    async def body(self, chunk: bytes) -> None:
        self._record.bytes_out += len(chunk)
        await self._send({"type": "http.response.body", "body": chunk, "more_body": True})

    async def end(self, chunk: bytes = b"") -> None:
        self._record.bytes_out += len(chunk)
        await self._send({"type": "http.response.body", "body": chunk, "more_body": False})

    def close(self) -> None:
        """Nothing more goes out."""
        self._record.duration = self._clock() - self._started
