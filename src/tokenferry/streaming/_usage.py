"""What an answer of the Messages API tells of itself, read from a copy: tokens, model, and how it ended."""

import contextlib
import json
import re
from collections.abc import Iterator
from typing import Any, Final

import msgspec

from tokenferry.wire import next_event, parse

_ERROR_TYPE: Final = re.compile(r"[a-z][a-z0-9_]{0,63}")
# Unescaped quotation marks: no text of a model can hold these.
_USAGE: Final = b'"usage"'
_USAGE_OBJECT: Final = re.compile(rb'"usage"\s*:\s*(?=\{)')
_USAGE_LIMIT: Final = 4096
_MOST: Final = 10**9  # no request has more
_COUNTS: Final = ("input_tokens", "output_tokens", "cache_creation_input_tokens", "cache_read_input_tokens")
_LONGEST_WORD: Final = 32
_OUTSIDE: Final = 64
# Iterations that the numbers beside them include. All others, like a compaction, are billed on top of those numbers.
_INCLUDED: Final = frozenset(("message", "fallback_message"))
_TEXT: Final = re.compile(
    rb'"(?:text|thinking|partial_json|content|reasoning_content|arguments|delta)"\s*:\s*("(?:[^"\\]|\\.)*")'
)
_CHARACTERS_A_TOKEN: Final = 4
_DECODER: Final = json.JSONDecoder()
_object: Final = msgspec.json.Decoder(dict[str, Any])
_CONTENT: Final = b"event: content_block_"
_NO_CONTENT: Final = re.compile(rb"\n\n(?!event: content_block_)")
"""Where a run of such events ends, if their lines end in LF alone: this passes a burst of them in one search."""
_NO_CONTENT_OF_ANY: Final = re.compile(rb"(?:\r\n|\r(?!\n)|\n){2}(?!event: content_block_)")
_QUIET: Final = frozenset(("content_block_start", "content_block_delta", "content_block_stop"))


class TokenUsage(msgspec.Struct):
    """Tokens as the upstream counted them; None where it said nothing, which is not zero.

    Input is counted without what the cache read and wrote. All numbers are those billed: with the iterations that the
    vendor leaves out of its sums.
    """

    input: int | None = None
    output: int | None = None
    cache_creation: int | None = None
    """Input written into the cache, for whatever time."""
    cache_read: int | None = None
    cache_creation_1h: int | None = None
    """The part of `cache_creation` written for an hour; the rest is written for five minutes."""
    thinking: int | None = None
    """The part of `output` spent on reasoning."""
    web_searches: int | None = None
    speed: str | None = None
    service_tier: str | None = None
    inference_geo: str | None = None
    is_estimated: bool = False
    """Whether it is an estimate, since the answer was cut before the upstream counted it, or it wasn't asked to."""
    model: str | None = None
    """Of one of `others`: the model that served it, if that differs."""
    others: "tuple[TokenUsage, ...]" = ()
    """The iterations that the vendor leaves out of its sums; they are included here."""

    @property
    def rated(self) -> int | None:
        """The tokens that rate limits count: input, cache writes and output, not cache reads; None for no word."""
        if self.input is None and self.output is None:
            return None
        return (self.input or 0) + (self.cache_creation or 0) + (self.output or 0)

    def take(self, reported: object) -> None:
        """Take over a `usage` object. A stream tells sums, so the last one counts; a zero never erases a count."""
        if not isinstance(reported, dict):
            return
        for other in self.others:
            self._add(other, -1)
        self._replace(reported)
        if reported.get("iterations"):
            self.others = tuple(_outside(reported["iterations"]))
        for other in self.others:
            self._add(other, 1)

    def _replace(self, reported: dict[str, Any]) -> None:
        get = reported.get
        plain, output, written, read = [
            count if type(count) is int and 0 <= count < _MOST else None for count in map(get, _COUNTS)
        ]
        self._replace_input(plain, written, read, get("cache_creation"))
        if output or self.output is None:
            self.output = output
        if details := get("output_tokens_details"):
            self.thinking = _later(self.thinking, details, "thinking_tokens")
        if tools := get("server_tool_use"):
            self.web_searches = _later(self.web_searches, tools, "web_search_requests")
        if speed := get("speed"):
            self.speed = _word(speed) or self.speed
        if tier := get("service_tier"):
            self.service_tier = _word(tier) or self.service_tier
        if geo := get("inference_geo"):
            self.inference_geo = _word(geo) or self.inference_geo

    def _replace_input(self, plain: int | None, written: int | None, read: int | None, split: object) -> None:
        """Replace the input as a whole: a later, exact number may have moved from the input to the cache."""
        hour = None
        if isinstance(split, dict):
            hour = _count(split.get("ephemeral_1h_input_tokens"))
            if written is None:
                written = _sum(hour, _count(split.get("ephemeral_5m_input_tokens")))
        is_said = bool(plain or written or read)
        if plain is not None and (is_said or self.input is None):
            self.input = plain
        if written is not None and (is_said or self.cache_creation is None):
            self.cache_creation = written
        if read is not None and (is_said or self.cache_read is None):
            self.cache_read = read
        if hour is not None and (is_said or self.cache_creation_1h is None):
            self.cache_creation_1h = hour

    def _add(self, other: "TokenUsage", sign: int) -> None:
        for field in ("input", "output", "cache_creation", "cache_read", "cache_creation_1h"):
            if count := getattr(other, field):
                setattr(self, field, (getattr(self, field) or 0) + sign * count)


def _count(value: object) -> int | None:
    return value if type(value) is int and 0 <= value <= _MOST else None


def _sum(*counts: int | None) -> int | None:
    known = [count for count in counts if count is not None]
    return sum(known) if known else None


def _later(known: int | None, reported: object, name: str) -> int | None:
    count = _count(reported.get(name)) if isinstance(reported, dict) else None
    return count if count or known is None else known


def _word(value: object) -> str | None:
    is_word = isinstance(value, str) and len(value) <= _LONGEST_WORD and value.isascii() and value.isprintable()
    return value if is_word and isinstance(value, str) else None


def _outside(iterations: object) -> Iterator[TokenUsage]:
    """The iterations that the numbers beside them leave out."""
    for one in iterations[:_OUTSIDE] if isinstance(iterations, list) else ():
        if isinstance(one, dict) and one.get("type") not in _INCLUDED:
            usage = TokenUsage(model=_text(one.get("model")))
            usage._replace(one)  # an iteration has no iterations
            yield usage


def estimated_output(sample: bytes, size: int) -> int:
    """The tokens of a stream of `size` bytes that begins with `sample`: one for each four characters of its content."""
    characters = 0
    for text in _TEXT.findall(sample):
        with contextlib.suppress(ValueError):
            characters += len(json.loads(text))
    return -(-characters * size // (len(sample) * _CHARACTERS_A_TOKEN)) if sample else 0


class SseUsageReader:
    """Reads the copy of a stream's events in the format of the Messages API.

    A chunk without a word of interest costs three searches; only the others are taken apart.
    """

    def __init__(self, usage: TokenUsage) -> None:
        self._usage = usage
        self.is_complete = False
        """Whether the message has come to its end, and no other one has begun."""
        self.error: str | None = None
        """The type of the error event that ended it."""
        self.model: str | None = None
        self.is_counted = False
        """Whether the upstream has counted the whole output."""

    @property
    def is_finished(self) -> bool:
        return self.is_complete

    def read(self, events: bytes) -> int:
        """Take note of whole events; give how many bytes of them may pass: an error event is the last to."""
        if _USAGE in events or b"error" in events or b"message_stop" in events or self.is_complete:
            start = 0
            while start < len(events):
                if events.startswith(_CONTENT, start):  # nearly all of them, as they are written
                    self.is_complete = False
                    other = (_NO_CONTENT if events.find(b"\r") < 0 else _NO_CONTENT_OF_ANY).search(events, start)
                    start = len(events) if other is None else other.end()
                    continue
                event, start = next_event(events, start)
                self._note(event)
                if self.error is not None:
                    return start
        return len(events)

    def _note(self, event: bytes) -> None:
        name, data = parse(event)
        if name in _QUIET:
            self.is_complete = False
            return
        document = json_object(data)
        match name or document.get("type"):
            case "message_start":
                self.is_complete = self.is_counted = False
                message = document.get("message")
                if isinstance(message, dict):
                    self._usage.take(message.get("usage"))
                    self.model = _text(message.get("model"))
            case "message_delta":
                usage = document.get("usage")
                self._usage.take(usage)
                self.is_counted = isinstance(usage, dict) and _count(usage.get("output_tokens")) is not None
            case "message_stop":
                self.is_complete = True
            case "error":
                self.error = error_type(document) or "error"


def read_usage(document: bytes, usage: TokenUsage) -> None:
    """Take over the tokens that an answer in one JSON document tells of."""
    at = document.find(_USAGE)
    if at < 0:
        return
    if document.find(_USAGE, at + 1) < 0 and (found := _USAGE_OBJECT.match(document, at)) is not None:
        # The one object of that name, wherever it stands, is read alone: the text beside it may be long.
        start = found.end()
        with contextlib.suppress(ValueError):
            usage.take(_DECODER.raw_decode(document[start : start + _USAGE_LIMIT].decode("utf-8", "replace"))[0])
            return
    usage.take(json_object(document).get("usage"))


def type_of(data: bytes) -> str:
    """The type that an event's data names; empty for none."""
    return _text(json_object(data).get("type")) or ""


def error_type(document: dict[str, Any]) -> str | None:
    """The type of an error in Anthropic's envelope; None for what is none, or could not be one's name."""
    error = document.get("error")
    kind = error.get("type") if isinstance(error, dict) else None
    return kind if isinstance(kind, str) and _ERROR_TYPE.fullmatch(kind) else None


def json_object(data: bytes) -> dict[str, Any]:
    """What the data says, if it is a JSON object; else an empty one."""
    try:
        return _object.decode(data)
    except (msgspec.MsgspecError, UnicodeDecodeError, RecursionError):
        pass  # clients read more than the standard has: NaN, 1e999, half of a surrogate pair
    try:
        document = json.loads(data)
    except (ValueError, RecursionError):
        return {}
    return document if isinstance(document, dict) else {}


def _text(value: object) -> str | None:
    return value if isinstance(value, str) else None
