from typing import Final, Literal

from tokenferry.streaming._usage import json_object, type_of
from tokenferry.wire import FAILED, PREFACE, EventBoundary, event_stage, next_event, parse

GATE_LIMIT: Final = 64 * 1024
"""A stream passes after this many bytes without content."""
GATE_SECONDS: Final = 5.0

_QUIET: Final = PREFACE | {"ping", "message_start", "quiet"}
_ERRORS: Final = frozenset(("error", FAILED))


class FirstContentBuffer:
    """Holds a stream until its first content, so that after an early error another account can still be tried.

    Content is any event except `ping`, `message_start`, the first events of Responses, a Chat chunk with only a role, a
    Gemini event without parts, and errors. A Gemini answer that ends without content is an error.
    """

    def __init__(self) -> None:
        self.held: list[bytes] = []
        """The chunks that have arrived."""
        self._size = 0
        self._events = EventBoundary()

    def feed(self, chunk: bytes) -> Literal["held", "open", "error"]:
        """Add a chunk, and say whether to hold the stream, open it, or treat it as an error."""
        self.held.append(chunk)
        self._size += len(chunk)
        events, start = self._events.feed(chunk), 0
        has_cr = b"\r" in events
        while start < len(events):  # of what one read brings the first few decide
            event, start = next_event(events, start, has_cr=has_cr)
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
    """Classify an event without name and type, as Chat Completions and Gemini send them."""
    document = json_object(data)
    return event_stage(document) if document else ""
