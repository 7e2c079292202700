"""What an answer of the Messages API tells of itself, read from a copy: tokens, model, and how it ended."""

import contextlib
import json
import re
from dataclasses import dataclass
from typing import Any, Final

from tokenferry.streaming._events import parse, split

_DOCUMENT_LIMIT: Final = 1024 * 1024
_ERROR_TYPE: Final = re.compile(r"[a-z][a-z0-9_]{0,63}")
# Unescaped quotation marks: no text of a model can hold these.
_USAGE: Final = b'"usage"'
_USAGE_OBJECT: Final = re.compile(rb'"usage"\s*:\s*(?=\{)')
_USAGE_LIMIT: Final = 4096
_MOST: Final = 1 << 53
_FIELDS: Final = (
    ("input_tokens", "input"),
    ("output_tokens", "output"),
    ("cache_creation_input_tokens", "cache_creation"),
    ("cache_read_input_tokens", "cache_read"),
)
_DECODER: Final = json.JSONDecoder()
_CONTENT: Final = b"event: content_block_"
_QUIET: Final = frozenset(("content_block_start", "content_block_delta", "content_block_stop"))


@dataclass(slots=True)
class TokenUsage:
    """Tokens as the upstream counted them; None where it didn't say."""

    input: int | None = None
    output: int | None = None
    cache_creation: int | None = None
    cache_read: int | None = None

    def take(self, told: object) -> None:
        """Take over a `usage` object. A stream tells sums, so a number never goes back."""
        if not isinstance(told, dict):
            return
        for name, field in _FIELDS:
            count = told.get(name)
            if type(count) is int and 0 <= count < _MOST:
                known = getattr(self, field)
                if known is None or count > known:
                    setattr(self, field, count)


class SseUsageReader:
    """Reads the copy of a stream's events.

    A chunk without a word of interest costs three searches; only the others are taken apart.
    """

    def __init__(self, usage: TokenUsage) -> None:
        self._usage = usage
        self.is_complete = False
        """Whether the message has come to its end, and no other one has begun."""
        self.error: str | None = None
        """The type of the error event that ended it."""
        self.model: str | None = None

    def read(self, events: bytes) -> int:
        """Take note of whole events; give how many bytes of them may pass: an error event is the last to."""
        if _USAGE in events or b"error" in events or b"message_stop" in events or self.is_complete:
            for end, event in split(events):
                if event.startswith(_CONTENT):  # nearly all of them, as they are written
                    self.is_complete = False
                    continue
                self._note(event)
                if self.error is not None:
                    return end
        return len(events)

    def _note(self, event: bytes) -> None:
        name, data = parse(event)
        if name in _QUIET:
            self.is_complete = False
            return
        document = _object(data)
        match name or document.get("type"):
            case "message_start":
                self.is_complete = False
                message = document.get("message")
                if isinstance(message, dict):
                    self._usage.take(message.get("usage"))
                    self.model = _text(message.get("model"))
            case "message_delta":
                self._usage.take(document.get("usage"))
            case "message_stop":
                self.is_complete = True
            case "error":
                self.error = error_type(document) or "error"


class JsonUsageReader:
    """Reads the copy of an answer that is one JSON document of 1 MiB at most."""

    def __init__(self) -> None:
        self._chunks: list[bytes] = []
        self._size = 0

    def read(self, chunk: bytes) -> None:
        self._size += len(chunk)
        if self._size <= _DOCUMENT_LIMIT:
            self._chunks.append(chunk)
        else:
            self._chunks.clear()

    def tell(self, usage: TokenUsage) -> None:
        """Take over the tokens."""
        content = b"".join(self._chunks)
        at = content.find(_USAGE)
        if at < 0:
            return
        if content.find(_USAGE, at + 1) < 0 and (found := _USAGE_OBJECT.match(content, at)) is not None:
            # The one object of that name, wherever it stands, is read alone: the text beside it may be long.
            start = found.end()
            with contextlib.suppress(ValueError):
                usage.take(_DECODER.raw_decode(content[start : start + _USAGE_LIMIT].decode("utf-8", "replace"))[0])
                return
        usage.take(_object(content).get("usage"))

    def document(self) -> dict[str, Any]:
        """The whole of it; empty if it is too large, or no object."""
        return _object(b"".join(self._chunks))


def type_of(data: bytes) -> str:
    """The type that an event's data names; empty for none."""
    return _text(_object(data).get("type")) or ""


def error_type(document: dict[str, Any]) -> str | None:
    """The type of an error in Anthropic's envelope; None for what is none, or could not be one's name."""
    error = document.get("error")
    kind = error.get("type") if isinstance(error, dict) else None
    return kind if isinstance(kind, str) and _ERROR_TYPE.fullmatch(kind) else None


def _object(data: bytes) -> dict[str, Any]:
    try:
        document = json.loads(data)
    except (ValueError, RecursionError):
        return {}
    return document if isinstance(document, dict) else {}


def _text(value: object) -> str | None:
    return value if isinstance(value, str) else None
