"""Reads tokens, model and end of a Messages answer."""

import contextlib
import json
import re
from collections.abc import Iterator
from typing import Any, Final

import msgspec

from tokenferry.wire import next_event, parse

_ERROR_TYPE: Final = re.compile(r"[a-z][a-z0-9_]{0,63}")
# With unescaped quotes, which no text of a model can contain.
_USAGE: Final = b'"usage"'
_USAGE_OBJECT: Final = re.compile(rb'"usage"\s*:\s*(?=\{)')
_USAGE_LIMIT: Final = 4096
_MOST: Final = 10**9  # no request has more
_COUNTS: Final = ("input_tokens", "output_tokens", "cache_creation_input_tokens", "cache_read_input_tokens")
_LONGEST_WORD: Final = 32
_OUTSIDE: Final = 64
# Iterations that the totals include. All others, like a compaction, are billed on top of the totals.
_INCLUDED: Final = frozenset(("message", "fallback_message"))
_TEXT: Final = re.compile(
    rb'"(?:text|thinking|partial_json|content|reasoning_content|arguments|delta)"\s*:\s*("(?:[^"\\]|\\.)*")'
)
_CHARACTERS_A_TOKEN: Final = 4
_DECODER: Final = json.JSONDecoder()
_object: Final = msgspec.json.Decoder(dict[str, Any])
_CONTENT: Final = b"event: content_block_"
_MORE_CONTENT: Final = b"\n\n" + _CONTENT
_NO_CONTENT: Final = re.compile(rb"\n\n(?!event: content_block_)")
"""Where a run of such events ends, if their lines end in LF alone: this passes a burst of them in one search."""
_NO_CONTENT_OF_ANY: Final = re.compile(rb"(?:\r\n|\r(?!\n)|\n){2}(?!event: content_block_)")
_QUIET: Final = frozenset(("content_block_start", "content_block_delta", "content_block_stop"))


class TokenUsage(msgspec.Struct):
    """The upstream's token counts; None for an unknown one.

    Input excludes what the cache read and wrote. All numbers are those billed: they include the iterations that the
    vendor's totals exclude.
    """

    input: int | None = None
    output: int | None = None
    cache_creation: int | None = None
    """Input written into the cache, for any lifetime."""
    cache_read: int | None = None
    cache_creation_1h: int | None = None
    """The part of `cache_creation` with a lifetime of an hour; the rest has one of five minutes."""
    thinking: int | None = None
    """The part of `output` spent on reasoning."""
    web_searches: int | None = None
    speed: str | None = None
    service_tier: str | None = None
    inference_geo: str | None = None
    is_estimated: bool = False
    """Whether the output is an estimate, because the upstream did not count it."""
    model: str | None = None
    """In `others`: the model of the iteration, if it differs."""
    others: "tuple[TokenUsage, ...]" = ()
    """The iterations that the vendor's totals exclude; the numbers here include them."""

    @property
    def rated(self) -> int | None:
        """The tokens that rate limits count: input, cache writes and output, not cache reads; None if unknown."""
        if self.input is None and self.output is None:
            return None
        return (self.input or 0) + (self.cache_creation or 0) + (self.output or 0)

    def take(self, reported: object) -> None:
        """Read a `usage` object. Counts of a stream are cumulative, so the last one counts; a zero erases none."""
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
        counts = []
        for name in _COUNTS:
            count = get(name)
            counts.append(count if type(count) is int and 0 <= count < _MOST else None)
        plain, output, written, read = counts
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
        """Replace the input counts together: later ones may have moved tokens from the input to the cache."""
        hour = None
        if isinstance(split, dict):
            hour = token_count(split.get("ephemeral_1h_input_tokens"))
            if written is None:
                written = _sum(hour, token_count(split.get("ephemeral_5m_input_tokens")))
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


def token_count(value: object) -> int | None:
    return value if type(value) is int and 0 <= value <= _MOST else None


def _sum(*counts: int | None) -> int | None:
    known = [count for count in counts if count is not None]
    return sum(known) if known else None


def _later(known: int | None, reported: object, name: str) -> int | None:
    count = token_count(reported.get(name)) if isinstance(reported, dict) else None
    return count if count or known is None else known


def _word(value: object) -> str | None:
    is_word = isinstance(value, str) and len(value) <= _LONGEST_WORD and value.isascii() and value.isprintable()
    return value if is_word and isinstance(value, str) else None


def _outside(iterations: object) -> Iterator[TokenUsage]:
    """Give the iterations that the totals exclude."""
    for one in iterations[:_OUTSIDE] if isinstance(iterations, list) else ():
        if isinstance(one, dict) and one.get("type") not in _INCLUDED:
            usage = TokenUsage(model=_text(one.get("model")))
            usage._replace(one)  # an iteration has no iterations
            yield usage


def estimated_output(sample: bytes, size: int) -> int:
    """Estimate the output of `size` bytes that begin with `sample`: a token per four characters of content."""
    characters = 0
    for text in _TEXT.findall(sample):
        with contextlib.suppress(ValueError):
            characters += len(json.loads(text))
    return -(-characters * size // (len(sample) * _CHARACTERS_A_TOKEN)) if sample else 0


class SseUsageReader:
    """A `StreamReader` of Messages answers. Only chunks with a relevant word are parsed."""

    def __init__(self, usage: TokenUsage) -> None:
        self._usage = usage
        self.is_complete = False
        """Whether the message has ended, and no other has begun."""
        self.error: str | None = None
        """The type of the error event that ended the stream."""
        self.model: str | None = None
        self.is_counted = False
        """Whether the upstream has counted the whole output."""

    @property
    def is_finished(self) -> bool:
        return self.is_complete

    def read(self, events: bytes) -> int:
        """Read whole events. Give how many bytes may pass: up to an error event."""
        if _USAGE in events or b"error" in events or b"message_stop" in events or self.is_complete:
            start, has_cr = 0, b"\r" in events
            is_counted = has_cr
            no_content = _NO_CONTENT_OF_ANY if has_cr else _NO_CONTENT
            while start < len(events):
                if events.startswith(_CONTENT, start):  # nearly all events, as Anthropic writes them
                    self.is_complete = False
                    if not is_counted:  # once, since the run may be short
                        start, is_counted = _last_of_run(events, start), True
                    other = no_content.search(events, start)
                    start = len(events) if other is None else other.end()
                    continue
                event, start = next_event(events, start, has_cr=has_cr)
                self._note(event)
                if self.error is not None:
                    return start
        return len(events)

    def close(self) -> None:
        """Nothing is left to read."""

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
                self.is_counted = isinstance(usage, dict) and token_count(usage.get("output_tokens")) is not None
            case "message_stop":
                self.is_complete = True
            case "error":
                self.error = error_type(document) or "error"


def _last_of_run(events: bytes, start: int) -> int:
    """Give the end of the second last content event, if all up to it are such; else `start`.

    Of a burst they are, and counting takes half the time of a search by pattern.
    """
    last = events.rfind(_MORE_CONTENT, start)
    are_content = events.count(b"\n\n", start, last) == events.count(_MORE_CONTENT, start, last)
    return last if last >= 0 and are_content else start


def read_usage(document: bytes, usage: TokenUsage) -> None:
    """Read the usage of a whole answer."""
    at = document.find(_USAGE)
    if at < 0:
        return
    if document.find(_USAGE, at + 1) < 0 and (found := _USAGE_OBJECT.match(document, at)) is not None:
        # Only the `usage` object is parsed: the rest of the answer may be long.
        start = found.end()
        with contextlib.suppress(ValueError):
            usage.take(_DECODER.raw_decode(document[start : start + _USAGE_LIMIT].decode("utf-8", "replace"))[0])
            return
    usage.take(json_object(document).get("usage"))


def type_of(data: bytes) -> str:
    """Give the type in an event's data; empty without one."""
    return _text(json_object(data).get("type")) or ""


def error_type(document: dict[str, Any]) -> str | None:
    """Give the type of an error in Anthropic's envelope; None without a valid one."""
    error = document.get("error")
    kind = error.get("type") if isinstance(error, dict) else None
    return kind if isinstance(kind, str) and _ERROR_TYPE.fullmatch(kind) else None


def json_object(data: bytes) -> dict[str, Any]:
    """Decode a JSON object; give an empty one for any other data."""
    if not data:
        return {}
    try:
        return _object.decode(data)
    except (msgspec.MsgspecError, UnicodeDecodeError, RecursionError):
        pass  # clients accept more than the standard: NaN, 1e999, half a surrogate pair
    try:
        document = json.loads(data)
    except (ValueError, RecursionError):
        return {}
    return document if isinstance(document, dict) else {}


def _text(value: object) -> str | None:
    return value if isinstance(value, str) else None
