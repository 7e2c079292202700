"""Passes an upstream's answer to the client and reads a copy of it."""

import logging
from typing import Final, Protocol

from tokenferry.streaming._dialects import MESSAGES, Dialect
from tokenferry.streaming._usage import TokenUsage, error_type, estimated_output, json_object
from tokenferry.upstream import UpstreamError
from tokenferry.wire import EventBoundary

logger = logging.getLogger("tokenferry.streaming")

_BAD_REQUEST: Final = 400
_ANSWER_LIMIT: Final = 16 * 1024 * 1024
"""The most bytes of a model's answer, or of one event, that are read. Images precede the usage."""
_DOCUMENT_LIMIT: Final = 1024 * 1024
"""The most bytes of any other document that are read."""
_SAMPLE: Final = 32 * 1024


class BodyFilter(Protocol):
    """Filters a response's body. Write what each call gives; `end` or `cut` comes last, then `close`."""

    @property
    def is_over(self) -> bool:
        """Whether the answer has ended, though the upstream may send more."""
        ...

    @property
    def error(self) -> str | None:
        """The type of the error that ended the answer; None without one."""
        ...

    @property
    def model(self) -> str | None:
        """The model that the upstream named, unchecked."""
        ...

    def feed(self, chunk: bytes, /) -> bytes: ...

    def end(self) -> bytes:
        """End the answer after the upstream's regular end."""
        ...

    def cut(self, failure: UpstreamError, /) -> bytes | None:
        """End the answer after a failure. None means that the client's connection must be cut."""
        ...

    def close(self) -> None:
        """Set `model`, and estimate the output if the upstream has not counted it."""


class DocumentFilter:
    """Filters a body that is not an event stream. If `is_readable`, its usage or error is read.

    At most 1 MiB is read, or 16 MiB of a model's answer (`is_answer`), whose output is estimated if not counted.
    """

    __slots__ = (
        "_chunks",
        "_dialect",
        "_is_answer",
        "_request_id",
        "_size",
        "_status",
        "_usage",
        "error",
        "is_over",
        "model",
    )

    def __init__(
        self,
        status: int,
        usage: TokenUsage,
        request_id: str,
        dialect: Dialect = MESSAGES,
        *,
        is_readable: bool,
        is_answer: bool = False,
    ) -> None:
        self._dialect = dialect
        self._is_answer = is_answer
        self.error: str | None = None
        self.model: str | None = None
        self.is_over = False
        self._status = status
        self._usage = usage
        self._request_id = request_id
        self._chunks: list[bytes] | None = [] if is_readable else None
        self._size = 0

    def feed(self, chunk: bytes) -> bytes:
        if self._chunks is not None:
            self._size += len(chunk)
            self._chunks.append(chunk)
            if self._size > (_ANSWER_LIMIT if self._is_answer else _DOCUMENT_LIMIT):
                self._chunks = None
        return chunk

    def end(self) -> bytes:
        document = b"" if self._chunks is None else b"".join(self._chunks)
        if self._status >= _BAD_REQUEST:
            self.error = error_type(json_object(document)) or "upstream_error"
        else:
            self._dialect.read_usage(document, self._usage)
            if self._is_answer and self._usage.output is None:
                estimate_output(document, self._usage)
        return b""

    def cut(self, failure: UpstreamError) -> None:
        logger.warning("%s %s", self._request_id, failure)
        self.error = failure.cause

    def close(self) -> None:
        pass


def estimate_output(document: bytes, usage: TokenUsage) -> None:
    """Estimate the output of an answer by its texts."""
    if output := estimated_output(document[:_SAMPLE], len(document)):
        usage.output, usage.is_estimated = output, True


class EventStreamFilter:
    """Filters a stream of server-sent events. It ends with its own last event or with an error event."""

    __slots__ = (
        "_dialect",
        "_events",
        "_is_unread",
        "_reader",
        "_request_id",
        "_sample",
        "_size",
        "_usage",
        "error",
        "is_over",
        "model",
    )

    def __init__(self, usage: TokenUsage, request_id: str, dialect: Dialect = MESSAGES) -> None:
        self._dialect = dialect
        self.error: str | None = None
        self.model: str | None = None
        self.is_over = False
        self._request_id = request_id
        self._events = EventBoundary(_ANSWER_LIMIT)
        self._is_unread = False
        """Whether the last event was too long to be read; it may have been the last one."""
        self._usage = usage
        self._reader = dialect.reader(usage)
        self._sample: list[bytes] = []
        self._size = 0

    def feed(self, chunk: bytes) -> bytes:
        passing = self._events.feed(chunk)
        if passing:
            whole = self._events.whole
            self._is_unread = self._events.is_inside or (self._is_unread and not whole)
            end = self._reader.read(whole)
            if self._reader.error is not None:
                self.is_over = True
                self.error = self._reader.error
                passing = passing[: passing.index(whole) + end]
            if self._size < _SAMPLE:
                self._sample.append(passing)
            self._size += len(passing)
        return passing

    def end(self) -> bytes:
        events, reader = self._events, self._reader
        rest = events.rest()
        if b"data:" in rest and rest.endswith((b"\n", b"\r")):
            reader.read(rest)  # a whole event without its blank line
        self.error = reader.error
        if reader.error is not None:
            return rest + b"\n\n"
        if reader.is_complete or reader.is_finished or (self._is_unread and not (events.is_inside or rest)):
            return rest
        # Clients must not act on an incomplete event.
        logger.warning("%s the upstream ended its stream without its last event", self._request_id)
        self.error = "truncated"
        return self._error_event("the upstream ended the answer before it was complete")

    def cut(self, failure: UpstreamError) -> bytes:
        events = self._events
        self.error = self._reader.error
        if self._reader.is_complete and not events.is_inside and not events.rest():
            return b""  # only the end of the framing is missing
        logger.warning("%s %s", self._request_id, failure)
        self.error = failure.cause
        return self._error_event(f"the answer was cut: {failure}")

    @property
    def beginning(self) -> bytes:
        """About the first 32 KiB of the upstream's bytes."""
        return b"".join(self._sample)

    def close(self) -> None:
        if not self._reader.is_complete:
            self._reader.close()
        self.model = self._reader.model
        if not self._reader.is_counted:
            output = estimated_output(self.beginning, self._size)
            if output > (self._usage.output or 0):
                self._usage.output, self._usage.is_estimated = output, True

    def _error_event(self, reason: str) -> bytes:
        # If an event has partly passed, a further line turns it into the error.
        start = b"\n" if self._events.is_inside else b""
        return start + self._dialect.error_event("api_error", reason, self._request_id)
