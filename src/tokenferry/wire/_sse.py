"""Server-sent events (the HTML standard's "event stream") as bytes: their boundaries and fields."""

import re
from itertools import islice
from typing import Final

_HELD_LIMIT: Final = 256 * 1024
_BLANK_LINES: Final = (b"\n\n", b"\n\r\n", b"\r\r")
_LONGEST: Final = max(map(len, _BLANK_LINES))
_DATA: Final = b"data: "
_NAMED: Final = b"event: "
_BLANK_LINE: Final = re.compile(rb"(?:\r\n|\r(?!\n)|\n){2}")
_NEWLINES: Final = re.compile(rb"[\r\n]*")


class EventBoundary:
    """Passes whole server-sent events, and holds back an event until it is complete.

    A stream that is cut within an event can so be ended with an error event. Bytes are neither changed nor parsed. An
    event of more than `limit` bytes passes as it arrives.
    """

    def __init__(self, limit: int = _HELD_LIMIT) -> None:
        self._limit = limit
        self._held = bytearray()
        self._tail = b""
        self.is_inside = False
        """Whether a part of an unfinished event has passed."""
        self.whole = b""
        """The whole events in the last result of `feed`."""

    def feed(self, chunk: bytes) -> bytes:
        """Give the bytes that may pass now, if any."""
        if self.is_inside:
            return self._feed_inside(chunk)
        held = self._held
        if held:
            start = max(len(held) + 1 - _LONGEST, 0)
            held += chunk
            end = _end_of_last(held, start)
            passing = bytes(held[:end])
            del held[:end]
        elif chunk.endswith(_BLANK_LINES):
            passing = chunk
        else:
            end = _end_of_last(chunk, 0)
            passing = chunk[:end]
            held += chunk[end:]
        self.whole = passing
        if len(held) > self._limit:
            self.is_inside = True
            self._tail = bytes(held[1 - _LONGEST :])
            passing += held
            held.clear()
        return passing

    def _feed_inside(self, chunk: bytes) -> bytes:
        seam = self._tail + chunk
        end = _end_of_first(seam) - len(self._tail)
        if end <= 0:
            self._tail = seam[1 - _LONGEST :]
            self.whole = b""
            return chunk
        self.is_inside = False
        return chunk[:end] + self.feed(chunk[end:])

    def rest(self) -> bytes:
        """Give the bytes that are held back at the end of the stream."""
        rest = bytes(self._held)
        self._held.clear()
        return rest


def split(events: bytes) -> list[bytes]:
    """Give each event without its blank line; bytes after the last blank line count as an event."""
    if b"\r" not in events:
        found = events.split(b"\n\n")
    elif events.count(b"\r\n") == events.count(b"\n") == events.count(b"\r"):  # as Google writes them
        found = events.split(b"\r\n\r\n")
    else:
        found = _BLANK_LINE.split(events)
    if not found[-1]:
        found.pop()
    return found


def next_event(events: bytes, start: int, *, has_cr: bool) -> tuple[bytes, int]:
    """Give the first event from `start` on, as `split` does, and where the one behind it begins.

    Blank lines before it are passed over at once. `has_cr` says whether there is a CR in `events`.
    """
    if events[start] in b"\r\n":
        start = _end_of_newlines(events, start)
    if not has_cr:
        end = events.find(b"\n\n", start)
        behind = end + 2
    else:
        blank = _BLANK_LINE.search(events, start)
        end, behind = (-1, 0) if blank is None else blank.span()
    return (events[start:], len(events)) if end < 0 else (events[start:end], behind)


def end_of(events: bytes, number: int) -> int:
    """Give the position after the event with this number (from 0) and its blank line."""
    blank = next(islice(_BLANK_LINE.finditer(events), number, None), None)
    return len(events) if blank is None else blank.end()


def parse(event: bytes) -> tuple[str, bytes]:
    """Give an event's name, empty if it has none, and its data."""
    if event.startswith(_NAMED) and event.count(b"\n") == 1 and event.find(b"\r") < 0:  # as vendors write them
        first, _, second = event.partition(b"\n")
        if second.startswith(_DATA):
            return first[len(_NAMED) :].decode("utf-8", "replace"), second[len(_DATA) :]
    name = ""
    data = []
    for line in event.splitlines():
        field, _, value = line.partition(b":")
        if field == b"data":
            data.append(value.removeprefix(b" "))
        elif field == b"event":
            name = value.removeprefix(b" ").decode("utf-8", "replace")
    return name, b"\n".join(data)


def data_of(event: bytes) -> bytes:
    """Give an event's data alone, as `parse` does."""
    if event.startswith(_DATA) and b"\n" not in event and b"\r" not in event:
        return event[len(_DATA) :]
    return parse(event)[1]


def _end_of_newlines(events: bytes, start: int) -> int:
    found = _NEWLINES.match(events, start)
    assert found is not None
    return found.end()


def _end_of_last(events: bytes | bytearray, start: int) -> int:
    return max(at + len(line) if (at := events.rfind(line, start)) >= 0 else 0 for line in _BLANK_LINES)


def _end_of_first(events: bytes) -> int:
    ends = [at + len(line) for line in _BLANK_LINES if (at := events.find(line)) >= 0]
    return min(ends, default=0)
