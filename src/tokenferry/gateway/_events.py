from typing import Final

_HELD_LIMIT: Final = 256 * 1024
# Unescaped quotation marks: no text of a model can hold these.
_ENDINGS: Final = (b'"message_stop"', b"event: message_stop", b"event: error", b'"type":"error"', b'"type": "error"')
_BLANK_LINES: Final = (b"\n\n", b"\n\r\n", b"\r\r")


class EventBoundary:
    """Lets whole server-sent events pass, and holds back the beginning of one whose end has not come yet.

    So a stream that is cut in the middle of an event can still be ended by one that says so. Bytes are neither changed
    nor parsed; an event of more than 256 KiB passes as it comes.
    """

    def __init__(self) -> None:
        self._held = b""
        self._last = b""
        self.is_inside = False
        """Whether the beginning of an unfinished event has been let through."""

    @property
    def is_complete(self) -> bool:
        """Whether the last event that passed is one that a stream of the Messages API may end with."""
        return any(ending in self._last for ending in _ENDINGS)

    def feed(self, chunk: bytes) -> bytes:
        """Give what may pass now; perhaps nothing."""
        passing = self._pass(chunk)
        if passing:
            self._last = passing[_start_of_last_event(passing) :]
        return passing

    def _pass(self, chunk: bytes) -> bytes:
        if self._held:
            chunk = self._held + chunk
            self._held = b""
        if chunk.endswith(_BLANK_LINES):
            self.is_inside = False
            return chunk
        end = max(at + len(line) if (at := chunk.rfind(line)) >= 0 else 0 for line in _BLANK_LINES)
        if end:
            self.is_inside = False
        if self.is_inside or len(chunk) - end > _HELD_LIMIT:
            self.is_inside = True
            return chunk
        self._held = chunk[end:]
        return chunk[:end]

    def rest(self) -> bytes:
        """Give what is held back when the stream ends of its own accord."""
        held, self._held = self._held, b""
        self._last = held or self._last
        return held


def _start_of_last_event(passing: bytes) -> int:
    body = len(passing.rstrip(b"\r\n"))
    return max(passing.rfind(line, 0, body) for line in _BLANK_LINES) + 1
