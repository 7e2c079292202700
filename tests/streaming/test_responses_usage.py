"""What is read from a copy of an answer of the Responses API."""

import json
from typing import Any

import pytest

from tokenferry.streaming._responses_usage import ResponsesUsageReader, read_responses_usage
from tokenferry.streaming._usage import TokenUsage
from tokenferry.wire import EventBoundary, responses_error_event
from wire.rig import named

USAGE = {
    "input_tokens": 100,
    "input_tokens_details": {"cached_tokens": 60, "cache_write_tokens": 10},
    "output_tokens": 20,
    "output_tokens_details": {"reasoning_tokens": 7},
}
CREATED = named("response.created", response={"id": "resp_1", "model": "gpt", "error": None, "usage": None})
DELTA = named("response.output_text.delta", delta='"response.completed" "error" "usage":{"input_tokens":9}')


def end(kind: str, **fields: Any) -> bytes:
    return named(f"response.{kind}", response={"id": "resp_1", "model": "gpt", "usage": USAGE, **fields})


def read(stream: bytes, step: int) -> tuple[bytes, TokenUsage, ResponsesUsageReader]:
    events, usage = EventBoundary(), TokenUsage()
    reader = ResponsesUsageReader(usage)
    passed = b""
    for start in range(0, len(stream), step):
        passing = events.feed(stream[start : start + step])
        passed += passing[: reader.read(passing)]
    return passed, usage, reader


@pytest.mark.parametrize("step", [1, 7, 10_000])
@pytest.mark.parametrize("ends", [b"\n", b"\r\n"])
@pytest.mark.parametrize("kind", ["completed", "incomplete"])
def test_the_last_event_counts_wherever_reads_cut(step: int, ends: bytes, kind: str) -> None:
    stream = (CREATED + DELTA + end(kind, service_tier="flex")).replace(b"\n", ends)
    passed, usage, reader = read(stream, step)
    assert passed == stream
    assert (usage.input, usage.cache_read, usage.cache_creation, usage.output) == (30, 60, 10, 20)
    assert (usage.thinking, usage.service_tier) == (7, "flex")
    assert (reader.model, reader.error, reader.is_counted, reader.is_complete) == ("gpt", None, True, True)


def test_without_its_last_event_it_is_not_complete() -> None:
    _, usage, reader = read(CREATED + DELTA, 10_000)
    assert (reader.is_complete, reader.is_finished, reader.is_counted, usage.output) == (False, False, False, None)


@pytest.mark.parametrize(
    ("error", "kind"),
    [
        (named("response.failed", response={"error": {"code": "rate_limit_exceeded"}}), "rate_limit_exceeded"),
        (named("response.failed", response={"error": None}), "error"),
        (named("error", code="server_error", message="x", param=None), "server_error"),
        (named("error", error={"type": "rate_limit_error"}), "rate_limit_error"),
        (b'data: {"type": "error", "code": 3}\n\n', "error"),
        (responses_error_event("overloaded_error", "x", "req_1"), "server_is_overloaded"),
    ],
)
def test_an_error_is_the_last_event_that_passes(error: bytes, kind: str) -> None:
    passed, _, reader = read(CREATED + error + DELTA, 10_000)
    assert (passed, reader.error) == (CREATED + error, kind)


def test_a_whole_answer() -> None:
    usage = TokenUsage()
    read_responses_usage(json.dumps({"usage": USAGE}).encode(), usage)
    assert (usage.input, usage.cache_read, usage.output, usage.thinking) == (30, 60, 20, 7)


@pytest.mark.parametrize("document", [b"", b"[]", b"null", b'{"usage": 3}', b'{"usage": null}', b"[" * 100_000])
def test_what_tells_nothing_counts_nothing(document: bytes) -> None:
    usage = TokenUsage()
    read_responses_usage(document, usage)
    assert usage == TokenUsage()
