from typing import Final

_HELD_LIMIT: Final = 256 * 1024
_BLANK_LINES: Final = (b"\n\n", b"\n\r\n", b"\r\r")


class EventBoundary:
    """Lets whole server-sent events pass, and holds back the beginning of one whose end has not come yet.

    So a stream that is cut in the middle of an event can still be ended by one that says so. Bytes are neither changed
    nor parsed; an event of more than 256 KiB passes as it comes.
    """

    def __init__(self) -> None:
        self._held = b""
        self.is_inside = False
        """Whether the beginning of an unfinished event has been let through."""

    def feed(self, chunk: bytes) -> bytes:
        """Give what may pass now; perhaps nothing."""
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
        return held
