from typing import Final

from tokenferry.streaming._body_filter import BodyFilter
from tokenferry.upstream import UpstreamError
from tokenferry.wire import EventBoundary, parse, split

_LONGEST_EVENT: Final = 32 * 1024 * 1024
_DONE: Final = b"[DONE]"
"""The end of streams of some compatible servers; it is not an item."""


class JsonArrayFilter:
    """Turns a stream of events into a JSON array of their data, as Gemini's API does for clients without SSE.

    An error that ends the stream is the last item.
    """

    __slots__ = ("_events", "_inner", "_is_begun")

    def __init__(self, inner: BodyFilter) -> None:
        self._inner = inner
        self._events = EventBoundary(_LONGEST_EVENT)
        self._is_begun = False

    @property
    def is_over(self) -> bool:
        return self._inner.is_over

    @property
    def error(self) -> str | None:
        return self._inner.error

    @property
    def model(self) -> str | None:
        return self._inner.model

    def feed(self, chunk: bytes) -> bytes:
        passing = self._items(self._events.feed(self._inner.feed(chunk)))
        return passing + self._ending() if self._inner.is_over else passing

    def end(self) -> bytes:
        return self._last(self._inner.end())

    def cut(self, failure: UpstreamError) -> bytes | None:
        rest = self._inner.cut(failure)
        return None if rest is None else self._last(rest)

    def close(self) -> None:
        self._inner.close()

    def _last(self, rest: bytes) -> bytes:
        return self._items(self._events.feed(rest)) + self._ending()

    def _ending(self) -> bytes:
        return self._items(self._events.rest()) + (b"]" if self._is_begun else b"[]")

    def _items(self, events: bytes) -> bytes:
        found = []
        for event in split(events):
            if (data := parse(event)[1]) and data.strip() != _DONE:
                found.append((b",\r\n" if self._is_begun else b"[") + data)
                self._is_begun = True
        return b"".join(found)
