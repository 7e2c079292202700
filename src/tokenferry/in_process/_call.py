"""One request of a program, between the program's thread and the gateway's."""

import contextlib
import os
from collections.abc import Callable, Sequence
from enum import Enum, auto
from typing import TYPE_CHECKING, Final, TypeAlias

import msgspec

from tokenferry.serve import EmbeddedGateway

if TYPE_CHECKING:
    from tokenferry.gateway import RequestHandler

Header: TypeAlias = tuple[bytes, bytes]

_MOST_QUEUED: Final = 256 * 1024


class AnswerHead(msgspec.Struct, frozen=True):
    """The status and headers of an answer."""

    status: int
    headers: list[Header]


class AnswerMark(Enum):
    """A mark between the bytes of an answer."""

    END = auto()
    CUT = auto()
    PAUSED = auto()
    """The gateway has paused: call `resume` once everything before this is read."""


class ProgramRequest(msgspec.Struct, frozen=True):
    """A program's request without its credential. `providers` are those of its host."""

    method: str
    target: bytes
    headers: Sequence[Header]
    body: bytes
    providers: tuple[str, ...] = ()

    def __repr__(self) -> str:
        return f"ProgramRequest({self.method!r})"


Item: TypeAlias = AnswerHead | bytes | AnswerMark | BaseException


class ProgramCall:
    """A request and its answer. `deliver` is called for each item on the gateway's thread.

    A slow program pauses the gateway, so that little more than 256 KiB are queued.
    """

    def __init__(self, gateway: EmbeddedGateway, request: ProgramRequest, deliver: Callable[[Item], object]) -> None:
        self._gateway = gateway
        self._request = request
        self._deliver = deliver
        self._writer = _ItemWriter(self)
        self._handler: RequestHandler | None = None
        self._queued = 0
        self._pid = os.getpid()

    # Called on the program's thread. The gateway may have stopped, and all its calls.

    def start(self) -> None:
        """Raises `RuntimeError` if the gateway has ended."""
        self._gateway.call_soon(self._begin)

    def resume(self) -> None:
        with contextlib.suppress(RuntimeError):
            self._gateway.call_soon(self._resume)

    def cancel(self) -> None:
        """Cancel the request. It does nothing at the end of the answer, and in a forked child."""
        if not self._writer.is_over and self._pid == os.getpid():
            with contextlib.suppress(RuntimeError):
                self._gateway.call_soon(self._cancel)

    # Called on the gateway's thread.

    def disconnect(self) -> None:
        self._writer.cut()
        self._leave()

    def take(self, item: Item) -> None:
        """Deliver an item of the answer."""
        self._deliver(item)
        if isinstance(item, bytes):
            self._queued += len(item)
            if self._queued > _MOST_QUEUED and self._handler is not None:
                self._queued = 0
                self._handler.pause()
                self._deliver(AnswerMark.PAUSED)
        elif isinstance(item, AnswerMark):
            self._gateway.ended(self)

    def _begin(self) -> None:
        request = self._request
        try:
            handler = self._handler = self._gateway.exchange(
                self, request.method, request.target, request.headers, self._writer, providers=request.providers
            )
            assert handler is not None, "the path is not proxied"
            if request.body:
                handler.take(request.body)
            handler.complete()
            handler.proceed()
        except BaseException as fault:  # noqa: BLE001  # raised again in the program's thread
            self._writer.is_over = True
            self._gateway.ended(self)
            self._deliver(fault)

    def _resume(self) -> None:
        if self._handler is not None and not self._writer.is_over:
            self._handler.resume()

    def _cancel(self) -> None:
        if not self._writer.is_over:
            self._writer.is_over = True
            self._gateway.ended(self)
            self._leave()

    def _leave(self) -> None:
        if self._handler is not None:
            self._handler.disconnected()


class _ItemWriter:
    """An `AnswerWriter` that delivers the answer to the call without framing."""

    is_started = is_over = is_chunked = is_awaited = False
    keep = True
    _left: int | None = None

    def __init__(self, call: ProgramCall) -> None:
        self._call = call

    def go_on(self) -> None:
        pass

    def start(self, status: int, lines: list[bytes], length: int | None) -> None:
        if not self.is_over:
            self.is_started, self.is_chunked, self._left = True, length is None, length
            self._call.take(AnswerHead(status, [_header(line) for line in lines]))

    def write(self, data: bytes) -> None:
        if not self.is_over:
            if self._left is not None:
                self._left -= len(data)
            self._call.take(data)

    def end(self) -> None:
        self._finish(AnswerMark.CUT if self._left else AnswerMark.END)

    def cut(self) -> None:
        self._finish(AnswerMark.CUT)

    def _finish(self, mark: AnswerMark) -> None:
        if not self.is_over:
            self.is_over = True
            self._call.take(mark)


def _header(line: bytes) -> Header:
    name, _, value = line.partition(b":")
    return name, value.strip()
