"""What is read from a copy of a Chat completion."""

import json
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tokenferry.limits import read_error
from tokenferry.streaming import FirstContentBuffer
from tokenferry.streaming._chat_usage import ChatUsageReader, read_chat_usage
from tokenferry.streaming._usage import TokenUsage
from tokenferry.wire import EventBoundary
from wire.rig import DONE, chunk

USAGE = {"prompt_tokens": 100, "completion_tokens": 20}
NAMES = (
    *("choices", "delta", "content", "usage", "error", "type", "code", "base_resp", "status_code", "model"),
    *("finish_reason", "prompt_tokens", "completion_tokens", "prompt_tokens_details", "cached_tokens"),
    *("completion_tokens_details", "reasoning_tokens", "prompt_cache_hit_tokens", "service_tier"),
)


def read(stream: bytes, step: int) -> tuple[bytes, TokenUsage, ChatUsageReader]:
    events, usage = EventBoundary(), TokenUsage()
    reader = ChatUsageReader(usage)
    passed = b""
    for start in range(0, len(stream), step):
        passing = events.feed(stream[start : start + step])
        passed += passing[: reader.read(passing)]
    return passed, usage, reader


@pytest.mark.parametrize("step", [1, 7, 10_000])
@pytest.mark.parametrize("ends", [b"\n", b"\r\n"])
def test_the_last_usage_counts_wherever_reads_cut(step: int, ends: bytes) -> None:
    """Some vendors count in each event, some say null in all but the last, and texts may look like anything."""
    pieces = [
        chunk({"content": '"usage":{"prompt_tokens":9} [DONE] "error"'}, usage=None),
        chunk({"content": "x"}, usage={**USAGE, "completion_tokens": 1}),
        chunk(finish="stop", usage=USAGE),
        DONE,
    ]
    stream = b"".join(pieces).replace(b"\n", ends)
    passed, usage, reader = read(stream, step)
    assert passed == stream
    assert (usage.input, usage.output, usage.cache_read) == (100, 20, None)
    assert (reader.model, reader.error, reader.is_counted) == ("gpt", None, True)
    assert reader.is_complete
    assert reader.is_finished


@pytest.mark.parametrize(
    ("reported", "expected"),
    [
        ({"prompt_tokens_details": {"cached_tokens": 60, "cache_write_tokens": 10}}, (30, 60, 10, 20, None)),
        ({"prompt_cache_hit_tokens": 40}, (60, 40, None, 20, None)),
        ({"prompt_tokens_details": {"cached_tokens": 400}}, (0, 400, None, 20, None)),
        ({"completion_tokens_details": {"reasoning_tokens": 7}}, (100, None, None, 20, 7)),
        ({"prompt_tokens_details": None, "completion_tokens_details": []}, (100, None, None, 20, None)),
        ({"prompt_tokens": "many", "completion_tokens": -1}, (None, None, None, None, None)),
    ],
)
def test_input_is_counted_without_what_the_cache_read_and_wrote(reported: dict[str, Any], expected: Any) -> None:
    usage = TokenUsage()
    read_chat_usage(json.dumps({"usage": {**USAGE, **reported}}).encode(), usage)
    assert (usage.input, usage.cache_read, usage.cache_creation, usage.output, usage.thinking) == expected


@pytest.mark.parametrize("step", [1, 10_000])
def test_an_error_is_the_last_event_that_passes(step: int) -> None:
    error = b'data: {"error": {"message": "busy", "type": "server_error"}}\n\n'
    passed, _, reader = read(chunk({"content": "so"}) + error + chunk({"content": "no"}), step)
    assert reader.error == "server_error"
    if step > 1:
        assert passed == chunk({"content": "so"}) + error


@pytest.mark.parametrize("document", [b"", b"[]", b"null", b'{"usage": 3}', b'{"usage": null}', b"[" * 100_000])
def test_what_tells_nothing_counts_nothing(document: bytes) -> None:
    usage = TokenUsage()
    read_chat_usage(document, usage)
    assert usage == TokenUsage()


anything = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False) | st.text(max_size=5),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.sampled_from(NAMES), inner, max_size=5),
    max_leaves=20,
)


@given(st.lists(anything, max_size=5))
def test_whatever_an_upstream_sends_nothing_is_raised_and_nothing_counts_below_zero(found: list[Any]) -> None:
    stream = b"".join(b"data: %b\n\n" % json.dumps(one).encode() for one in found)
    _, usage, reader = read(stream, 10_000)
    counts = (usage.input, usage.output, usage.cache_read, usage.cache_creation, usage.thinking)
    assert all(one is None or one >= 0 for one in counts)
    assert reader.error is None or reader.error.isprintable()
    gate = FirstContentBuffer()
    assert gate.feed(stream) in {"held", "open", "error"}
    read_error(stream)


def test_comments_are_not_parsed(monkeypatch: pytest.MonkeyPatch) -> None:
    """An upstream may send them without end: before its model is known and before its first content."""
    parsed: list[bytes] = []

    def note(event: bytes) -> tuple[str, bytes]:
        parsed.append(event)
        return "", b""

    for module in ("_chat_usage", "_first_content"):
        monkeypatch.setattr(f"tokenferry.streaming.{module}.parse", note)
    assert ChatUsageReader(TokenUsage()).read(b": ping\n\n" * 9) == 72
    assert FirstContentBuffer().feed(b": ping\n\n" * 9) == "held"
    assert parsed == []
