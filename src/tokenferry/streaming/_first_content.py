from typing import Final, Literal

from tokenferry.streaming._usage import json_object, type_of
from tokenferry.wire import FAILED, PREFACE, EventBoundary, event_stage, next_event, parse

GATE_LIMIT: Final = 64 * 1024
"""Bytes; what is longer without content passes."""
GATE_SECONDS: Final = 5.0

_QUIET: Final = PREFACE | {"ping", "message_start", "quiet"}
_ERRORS: Final = frozenset(("error", FAILED))


class FirstContentBuffer:
    """Holds a stream back until its first content, so that an error in its place can still be answered elsewhere.

    Content is every event but `ping`, `message_start`, the first ones of Responses and errors, a chunk of a Chat
    completion with more in it than a role, and one of Gemini with a part. Gemini's end without content is an error.
    """

    def __init__(self) -> None:
        self.held: list[bytes] = []
        """The stream as it came until now."""
        self._size = 0
        self._events = EventBoundary()

    def feed(self, chunk: bytes) -> Literal["held", "open", "error"]:
        """Take what came next; tell what it brought."""
        self.held.append(chunk)
        self._size += len(chunk)
        events, start = self._events.feed(chunk), 0
        while start < len(events):  # of what one read brings the first few decide
            event, start = next_event(events, start)
            if b"data" not in event and b"event" not in event:  # a comment
                continue
            name, data = parse(event)
            kind = name or type_of(data) or _kind_of_chunk(data)
            if kind in _ERRORS:
                return "error"
            if kind not in _QUIET and data:
                return "open"
        return "held" if self._size <= GATE_LIMIT else "open"


def _kind_of_chunk(data: bytes) -> str:
    """What an event without a name or type brings: those of Chat Completions and of Gemini have neither."""
    document = json_object(data)
    return event_stage(document) if document else ""
