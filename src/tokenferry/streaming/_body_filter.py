"""An upstream's answer on its way to the client: the bytes pass, and a copy of them is read."""

import logging
from typing import Final, Protocol

from tokenferry.gateway.http.errors import cause_of, error_event
from tokenferry.gateway.http.headers import ResponseHeaders
from tokenferry.gateway.telemetry.record import RequestRecord
from tokenferry.routing import loggable
from tokenferry.streaming._events import EventBoundary
from tokenferry.streaming._usage import JsonUsageReader, SseUsageReader, error_type
from tokenferry.upstream import UpstreamError

logger = logging.getLogger("tokenferry.gateway")

_BAD_REQUEST: Final = 400


class BodyFilter(Protocol):
    """An answer's body on its way. What each call gives is to be written; one of `end` and `cut` comes last."""

    is_over: bool
    """Whether nothing may follow what was given last, though the upstream goes on."""

    def feed(self, chunk: bytes, /) -> bytes: ...

    def end(self) -> bytes:
        """The upstream ended it of its own accord."""
        ...

    def cut(self, fault: UpstreamError, /) -> bytes | None:
        """The upstream was cut. None if only a cut connection can tell the client so."""
        ...


def body_filter(status: int, headers: ResponseHeaders, record: RequestRecord) -> "EventStreamFilter | DocumentFilter":
    """The way for an answer: only a stream of events can be ended by one that says that it was cut."""
    if status < _BAD_REQUEST and headers.is_event_stream:
        return EventStreamFilter(record)
    return DocumentFilter(status, record, is_readable=headers.is_json)


class DocumentFilter:
    """An answer that is no stream of events."""

    __slots__ = ("_notes", "_record", "_status", "is_over")

    def __init__(self, status: int, record: RequestRecord, *, is_readable: bool) -> None:
        self._status = status
        self._record = record
        self._notes = JsonUsageReader() if is_readable else None
        self.is_over = False

    def feed(self, chunk: bytes) -> bytes:
        if self._notes is not None:
            self._notes.read(chunk)
        return chunk

    def end(self) -> bytes:
        notes = self._notes
        if self._status >= _BAD_REQUEST:
            self._record.error = (None if notes is None else error_type(notes.document())) or "upstream_error"
        elif notes is not None:
            notes.tell(self._record.usage)
        return b""

    def cut(self, fault: UpstreamError) -> None:
        logger.warning("%s %s", self._record.request_id, fault)
        self._record.error = cause_of(fault)


class EventStreamFilter:
    """A stream of events. It ends with its own last event, or with an error that says what is missing."""

    __slots__ = ("_events", "_notes", "_record", "is_over")

    def __init__(self, record: RequestRecord) -> None:
        self._record = record
        self._events = EventBoundary()
        self._notes = SseUsageReader(record.usage)
        self.is_over = False

    def feed(self, chunk: bytes) -> bytes:
        passing = self._events.feed(chunk)
        if passing:
            whole = self._events.whole
            end = self._notes.read(whole)
            if self._notes.error is not None:
                self.is_over = True
                self._settle()
                return passing[: passing.index(whole) + end]
        return passing

    def end(self) -> bytes:
        events, notes = self._events, self._notes
        rest = events.rest()
        if b"data:" in rest and rest.endswith((b"\n", b"\r")):
            notes.read(rest)  # a whole event but for its blank line
        self._settle()
        if notes.error is not None:
            return rest + b"\n\n"
        if notes.is_complete:
            return rest
        # What is left of an event that never ended is nothing that a client may act on.
        logger.warning("%s the upstream ended its stream without message_stop", self._record.request_id)
        self._record.error = "truncated"
        return self._error("the upstream ended the answer before it was complete")

    def cut(self, fault: UpstreamError) -> bytes:
        events = self._events
        self._settle()
        if self._notes.is_complete and not events.is_inside and not events.rest():
            return b""  # nothing is missing but the end of the framing
        logger.warning("%s %s", self._record.request_id, fault)
        self._record.error = cause_of(fault)
        return self._error(f"the answer was cut off: {fault}")

    def _settle(self) -> None:
        record, notes = self._record, self._notes
        record.error = notes.error or record.error
        if notes.model is not None and record.model is None:
            record.model = loggable(notes.model)

    def _error(self, reason: str) -> bytes:
        # Inside an event that has partly passed, a further line makes that one the error.
        start = b"\n" if self._events.is_inside else b""
        return start + error_event("api_error", reason, self._record.request_id)
