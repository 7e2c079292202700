"""What is read from a copy of an answer of Gemini."""

import json
from typing import Any

import pytest

from tokenferry.streaming._gemini_usage import GeminiUsageReader, read_gemini_usage
from tokenferry.streaming._usage import TokenUsage
from tokenferry.wire import EventBoundary

USAGE = {
    "promptTokenCount": 100,
    "cachedContentTokenCount": 60,
    "candidatesTokenCount": 20,
    "thoughtsTokenCount": 7,
    "toolUsePromptTokenCount": 5,
}


def chunk(text: str = "", reason: str | None = None, **fields: Any) -> bytes:
    candidate: dict[str, Any] = {"content": {"role": "model", "parts": [{"text": text}]}}
    if reason:
        candidate["finishReason"] = reason
    document = {"candidates": [candidate], "modelVersion": "gemini-3", **fields}
    return b"data: " + json.dumps(document).encode() + b"\n\n"


def read(stream: bytes, step: int) -> tuple[bytes, TokenUsage, GeminiUsageReader]:
    events, usage = EventBoundary(), TokenUsage()
    reader = GeminiUsageReader(usage)
    passed = b""
    for start in range(0, len(stream), step):
        passing = events.feed(stream[start : start + step])
        passed += passing[: reader.read(passing)]
    return passed, usage, reader


@pytest.mark.parametrize("step", [1, 7, 10_000])
@pytest.mark.parametrize("ends", [b"\n", b"\r\n"])
def test_the_last_usage_counts_wherever_reads_cut(step: int, ends: bytes) -> None:
    stream = chunk('"finishReason" "error"', usageMetadata={"promptTokenCount": 100}) + chunk(
        "x", "STOP", usageMetadata=USAGE
    )
    stream = stream.replace(b"\n", ends)
    passed, usage, reader = read(stream, step)
    assert passed == stream
    assert (usage.input, usage.cache_read, usage.output, usage.thinking) == (45, 60, 27, 7)
    assert (reader.model, reader.error, reader.is_counted) == ("gemini-3", None, True)
    assert reader.is_complete


@pytest.mark.parametrize("step", [1, 7, 10_000])
def test_what_was_counted_before_a_client_left_counts_wherever_reads_cut(step: int) -> None:
    _, usage, reader = read(
        chunk(usageMetadata={"promptTokenCount": 100}) + chunk(usageMetadata=USAGE) + b"\n: ping\n\n", step
    )
    reader.close()
    assert (usage.input, usage.output, usage.thinking) == (45, 27, 7)
    assert (reader.is_complete, reader.is_counted) == (False, False)


@pytest.mark.parametrize("batches", [(1, 2, 3), (1, 2), (2, 3), (3,)])
def test_the_counts_before_an_error_count(batches: tuple[int, ...]) -> None:
    older = {"promptTokenCount": 9, "candidatesTokenCount": 1}
    events = [chunk(), chunk(usageMetadata=older), chunk(usageMetadata=USAGE), b'data: {"error":{"code":503}}\n\n']
    usage = TokenUsage()
    reader = GeminiUsageReader(usage)
    for start, end in zip((0, *batches), (*batches, 4), strict=True):
        reader.read(b"".join(events[start:end]))
    reader.close()
    assert (usage.input, usage.output, reader.error is None) == (45, 27, False)


def test_a_stream_without_a_reason_is_not_finished() -> None:
    _, usage, reader = read(chunk("x", usageMetadata=USAGE), 7)
    assert (reader.is_finished, reader.is_counted, usage.output) == (False, False, 27)


def test_a_blocked_prompt_ends_it() -> None:
    blocked = {"promptFeedback": {"blockReason": "SAFETY"}, "usageMetadata": {"promptTokenCount": 3}}
    _, usage, reader = read(b"data: " + json.dumps(blocked).encode() + b"\n\n", 7)
    assert (reader.is_finished, usage.input, usage.output) == (True, 3, 0)


def test_an_error_is_the_last_event_to_pass() -> None:
    error = b'data: {"error":{"code":503,"status":"UNAVAILABLE"}}\n\n'
    passed, _, reader = read(chunk("x") + error + chunk("y", "STOP"), 10_000)
    assert passed == chunk("x") + error
    assert (reader.error, reader.is_complete) == ("unavailable", False)


@pytest.mark.parametrize(
    "reported", [b"", b"[]", b'{"usageMetadata":[]}', b'{"usageMetadata":{"promptTokenCount":"x"}}']
)
def test_what_counts_nothing_leaves_nothing_known(reported: bytes) -> None:
    usage = TokenUsage()
    read_gemini_usage(reported, usage)
    assert usage == TokenUsage()
