"""The base of stream translators: reads whole events, and ends the answer exactly once."""

from abc import ABC, abstractmethod
from typing import ClassVar, Final

from tokenferry.errors import UnreadableAnswer
from tokenferry.wire._codec import Tokens
from tokenferry.wire._faults import UpstreamFault
from tokenferry.wire._sse import EventBoundary, data_of, split

_LONGEST_EVENT: Final = 8 * 1024 * 1024
_BROKEN: Final = 500


class EventTranslator(ABC):
    """A `StreamTranslator` without its formats: `_translate` reads the one and writes the other to `_out`."""

    heartbeat: ClassVar[bytes]
    """The event that keeps the client waiting; sent for an upstream's comment."""

    def __init__(self) -> None:
        self.is_complete = False
        self.error: str | None = None
        self.usage = Tokens()
        self._events = EventBoundary(_LONGEST_EVENT)
        self._out: list[bytes] = []

    @abstractmethod
    def _translate(self, data: bytes) -> None:
        """Translate the data of one event. Raises `UnreadableAnswer`."""

    @abstractmethod
    def _error(self, fault: UpstreamFault) -> tuple[str, bytes]:
        """Give the type of an error and its event, in the client's format."""

    def _ended(self) -> None:
        """Handle the end of the bytes. Raises `UnreadableAnswer` if the answer is incomplete."""
        raise UnreadableAnswer("the upstream ended the answer before it was complete")

    def feed(self, chunk: bytes) -> bytes:
        if self.is_complete or self.error is not None:
            return b""
        events = self._events.feed(chunk)
        if self._events.is_inside:
            return self.fail(f"an event of the upstream's answer has more than {_LONGEST_EVENT:,} bytes")
        return self._translated(split(events)) if events else b""

    def end(self) -> bytes:
        if self.is_complete or self.error is not None:
            return b""
        rest = self._events.rest()
        return self._translated([rest] if rest.endswith((b"\n", b"\r")) else [], is_last=True)

    def fail(self, why: str) -> bytes:
        return self._fail(UpstreamFault(status=_BROKEN, message=why))

    def _fail(self, fault: UpstreamFault) -> bytes:
        if self.is_complete or self.error is not None:
            return b""
        self.error, event = self._error(fault)
        return event

    def _beat(self) -> None:
        """Send a heartbeat, unless the last event was one."""
        if not self._out or self._out[-1] is not self.heartbeat:
            self._out.append(self.heartbeat)

    def _translated(self, events: list[bytes], *, is_last: bool = False) -> bytes:
        out = self._out = []
        try:
            for one in events:
                if b"data" in one and (data := data_of(one)):
                    self._translate(data)
                    if self.is_complete or self.error is not None:
                        break
                elif one.startswith(b":"):
                    self._beat()
            else:
                if is_last:
                    self._ended()
        except UnreadableAnswer as fault:
            out.append(self.fail(str(fault)))
        return b"".join(out)
