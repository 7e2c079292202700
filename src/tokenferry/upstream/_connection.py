import asyncio
import logging
import ssl
from typing import TYPE_CHECKING, cast

from tokenferry.upstream._response_parser import ReadResult, ResponseParser

if TYPE_CHECKING:
    from tokenferry.upstream._call import Call
    from tokenferry.upstream._client import UpstreamClient
    from tokenferry.upstream._request import UpstreamRequest

__all__ = ["Connection"]

logger = logging.getLogger(__name__)


class Connection(asyncio.Protocol):
    """One connection to an upstream: idle, or busy with exactly one call."""

    def __init__(self, upstream: "UpstreamClient") -> None:
        self._upstream = upstream
        self._reader = ResponseParser()
        self._transport: asyncio.Transport | None = None
        self._call: Call | None = None
        self._paused = False
        self._is_behind = False
        """Whether reading is suspended until the pending read is delivered."""
        self.idle_since = 0.0
        self.opening = 0.0
        """The seconds it took to open, name resolution, proxy and TLS included."""

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self._transport = cast("asyncio.Transport", transport)
        self._upstream.opened(self)

    @property
    def usable(self) -> bool:
        return self._transport is not None and not self._transport.is_closing()

    def start(self, call: "Call", request: "UpstreamRequest") -> None:
        """Write the request."""
        assert self._transport is not None
        self._call = call
        self._reader.expect(head_only=request.head_only)
        if len(request.pieces) == 1:
            self._transport.write(request.pieces[0])
        else:
            self._transport.writelines(request.pieces)

    def pause(self) -> None:
        if self._transport is not None and not self._paused:
            self._paused = True
            self._transport.pause_reading()

    def resume(self) -> None:
        if self._transport is not None and self._paused:
            self._paused = False
            if not self._is_behind:
                self._transport.resume_reading()

    def drop(self) -> None:
        """Close at once, without notifying a call."""
        self._call = None
        self._upstream.withdraw(self)
        if self._transport is not None:
            self._transport.abort()

    def data_received(self, data: bytes) -> None:
        call = self._call
        if call is None:
            logger.warning("%s sent bytes without a request; the connection is closed", self._upstream.host)
            self.drop()
            return
        if call.pending is not None:
            self._upstream.deliver()  # a call has at most one pending read
            if self._call is not call:
                return  # the call was aborted and the connection closed
            self._fall_behind()
        call.pending = result = self._reader.feed(data)
        if result.complete:
            # Released before the sink is called, which may send the next request at once.
            call.connection = None
            self._release()
        self._upstream.deliver_soon(call)

    def _fall_behind(self) -> None:
        """Stop reading in this iteration of the loop, so that a fast peer does not starve others."""
        if self._transport is not None and not self._is_behind:
            self._is_behind = True
            if not self._paused:
                self._transport.pause_reading()
            self._upstream.loop.call_soon(self._catch_up)

    def _catch_up(self) -> None:
        self._is_behind = False
        if self.usable and not self._paused:
            assert self._transport is not None
            self._transport.resume_reading()

    def eof_received(self) -> None:
        self._upstream.deliver()
        call = self._call
        complete = self._reader.ends_with_connection() and self._was_closed_cleanly()
        self.drop()
        if call is None:
            return
        if complete:
            call.receive(ReadResult(None, [], complete=True, fault=None))
        else:
            call.lost(None)

    def connection_lost(self, exc: Exception | None) -> None:
        self._upstream.deliver()
        call = self._call
        self._call = None
        self._transport = None
        self._upstream.gone(self)
        if call is not None:
            call.lost(exc)

    def _release(self) -> None:
        assert self._transport is not None
        self._call = None
        reader = self._reader
        # A request that is still in the buffer was answered before the peer read it. Over TLS the buffer of the inner
        # transport is not visible.
        if reader.keep_alive and not reader.surplus and not self._transport.get_write_buffer_size():
            if self._paused:
                self.resume()
            self._upstream.release(self)
        else:
            self.drop()

    def _was_closed_cleanly(self) -> bool:
        """Whether the peer itself ended the connection: over TLS, anyone on the path can close TCP."""
        assert self._transport is not None
        tls: ssl.SSLObject | None = self._transport.get_extra_info("ssl_object")
        if tls is None:
            return True
        try:
            return not tls.read(1)
        except ssl.SSLError:
            return False
