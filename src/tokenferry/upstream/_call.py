from math import inf
from typing import TYPE_CHECKING

from tokenferry.upstream._errors import AnswerCut, AnswerTimeout, BadAnswer, ConnectError, Phase, UpstreamError

if TYPE_CHECKING:
    import asyncio

    from tokenferry.upstream._client import UpstreamClient
    from tokenferry.upstream._connection import Connection
    from tokenferry.upstream._request import UpstreamRequest
    from tokenferry.upstream._response_parser import ReadResult
    from tokenferry.upstream._values import Sink

__all__ = ["Call"]

_SHORTEST_STALE_S = 0.25
_LONGEST_STALE_S = 1.0


def stale_within(opening: float) -> float:
    """Give the time after a request within which a lost connection counts as stale. Both times are in seconds.

    A stale connection shows within a round trip; opening it took at least one. A peer that is lost later may have
    worked on the request, which would be billed twice (RFC 9110, 9.2.2).
    """
    return min(max(_SHORTEST_STALE_S, 2 * opening), _LONGEST_STALE_S)


class Call:
    """One request and its response, from `UpstreamClient.send` to its end.

    Callers use `pause`, `resume` and `abort`, which are idempotent and do nothing once the call is over.
    """

    # Defaults of the class, which cost nothing per call.
    _phase: Phase = "connect"
    connection: "Connection | None" = None
    """The connection that it has, as long as no other call may have it."""
    _dial: "asyncio.Task[None] | None" = None
    _sent_at: float | None = None
    _reused = _paused = _answered = _head_seen = _over = False
    pending: "ReadResult | None" = None
    """A read that is not delivered yet."""
    deadline = inf
    """On the loop's clock; checked about once a second."""

    def __init__(
        self, upstream: "UpstreamClient", request: "UpstreamRequest", sink: "Sink", *, first_byte: float
    ) -> None:
        self._upstream = upstream
        self._loop = upstream.loop
        self._sink = sink
        self._wait_s = first_byte
        self.request: UpstreamRequest | None = request

    def pause(self) -> None:
        """Stop reading from the peer. Bytes that were read already, at most 256 KiB, are still delivered."""
        if self._over or self._paused:
            return
        self._paused = True
        if self.connection is not None:
            self.connection.pause()
            self.deadline = inf  # the peer must not time out while paused

    def resume(self) -> None:
        if self._over or not self._paused:
            return
        self._paused = False
        if self.connection is not None:
            self._await_bytes()
            self.connection.resume()

    def abort(self) -> None:
        """Close the connection at once."""
        if self._end():
            self._upstream.ended(self, None)

    def queue(self) -> None:
        """Wait until a connection is free."""
        self._phase = "busy"
        self.deadline = self._loop.time() + self._upstream.timeouts.connect

    def dial(self, dial: "asyncio.Task[None]") -> None:
        """Wait for a connection of its own."""
        self._phase = "connect"
        self._dial = dial
        self.deadline = self._loop.time() + self._upstream.timeouts.connect

    def attach(self, connection: "Connection", *, reused: bool) -> None:
        """Send the request on this connection."""
        assert self.request is not None
        self._dial = None
        self.connection = connection
        self._reused = reused and self._sent_at is None  # it is resent at most once
        self._phase = "first-byte"
        self._sent_at = now = self._loop.time()
        self.deadline = now + self._wait_s
        connection.start(self, self.request)
        if self._paused:
            connection.pause()

    def receive(self, result: "ReadResult") -> None:
        """Deliver a read. If the sink raises, the caller aborts the call."""
        was_over = self._over
        if was_over:
            return
        if not self._answered:
            self._answered = True
            self.request = None  # it can't be resent
        if result.complete:
            self.connection = None
        head, parts = result.head, result.parts
        if head is not None:
            self._head_seen = True
            self._phase = "idle"
            self._wait_s = self._upstream.timeouts.idle
            self._sink.on_head(head)
        if parts and not self._over:
            self._sink.on_body(parts[0] if len(parts) == 1 else b"".join(parts))
        if self._over:
            return
        if result.complete:
            self._end()
            self._upstream.ended(self, None)
            self._sink.on_end()
        elif result.fault is not None:
            self.fail(BadAnswer(self._upstream.host, result.fault, after_head=self._head_seen))
        elif self._head_seen and not self._paused:
            self._await_bytes()

    def unreachable(self, reason: str, error: Exception | None = None) -> None:
        """Fail because no connection could be opened."""
        self._dial = None
        failure = ConnectError(self._upstream.host, reason, sent=self.sent)
        failure.__cause__ = error
        self.fail(failure)

    def lost(self, error: Exception | None) -> None:
        """Handle the loss of the connection: resend if it was stale, otherwise fail."""
        connection, self.connection = self.connection, None
        if connection is not None and self._is_stale(connection):
            self._upstream.reconnect(self)
            return
        failure = AnswerCut(self._upstream.host, after_head=self._head_seen, sent=self.sent, answered=self._answered)
        # Without its frames: those of a failed write hold the request.
        failure.__cause__ = error and error.with_traceback(None)
        self.fail(failure)

    def expire(self) -> None:
        """Fail because the deadline has passed."""
        waited = self._wait_s if self._phase in ("first-byte", "idle") else self._upstream.timeouts.connect
        self.fail(AnswerTimeout(self._upstream.host, self._phase, waited, sent=self.sent, answered=self._answered))

    def fail(self, failure: UpstreamError) -> None:
        """End the call with a failure, unless it is over."""
        if self._end():
            self._upstream.ended(self, failure)
            self._sink.on_failure(failure)

    @property
    def sent(self) -> bool:
        return self._sent_at is not None

    @property
    def answered(self) -> bool:
        return self._answered

    def _await_bytes(self) -> None:
        self.deadline = self._loop.time() + self._wait_s

    def _is_stale(self, connection: "Connection") -> bool:
        if self._sent_at is None or not self._reused or self._answered:
            return False
        return self._loop.time() - self._sent_at < stale_within(connection.opening)

    def _end(self) -> bool:
        if self._over:
            return False
        self._over = True
        self.deadline = inf
        self.request = None
        if self._dial is not None:
            self._dial.cancel()
            self._dial = None
        if self.connection is not None:
            self.connection.drop()
            self.connection = None
        return True
