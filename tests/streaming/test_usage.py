import itertools
import json
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tokenferry.streaming._body_filter import DocumentFilter, EventStreamFilter
from tokenferry.streaming._usage import SseUsageReader, TokenUsage, estimated_output, json_object, read_usage
from tokenferry.wire import EventBoundary

START = {
    "type": "message_start",
    "message": {
        "model": "claude-sonnet-4-5",
        "usage": {
            "input_tokens": 7,
            "cache_creation_input_tokens": 3,
            "cache_read_input_tokens": 2,
            "output_tokens": 1,
        },
    },
}
TEXT = 'Ünïcøde ⛴ 🚢, "usage", an error, message_stop and "type":"error"'


def event(name: str, document: object, line: str = "\n", *, named: bool = True) -> bytes:
    text = json.dumps(document, ensure_ascii=False)
    lines = [f"event: {name}"] if named else []
    return line.join([*lines, f"data: {text}", "", ""]).encode()


def delta(text: str) -> dict[str, Any]:
    return {"type": "content_block_delta", "index": 0, "delta": {"type": "text_delta", "text": text}}


def stream(line: str = "\n", *, named: bool = True) -> bytes:
    documents: list[tuple[str, Any]] = [
        ("message_start", START),
        ("ping", {"type": "ping"}),
        ("content_block_delta", delta(TEXT)),
        ("something_new", {"type": "something_new", "x": [1]}),
        ("message_delta", {"type": "message_delta", "usage": {"output_tokens": 40}}),
        ("message_delta", {"type": "message_delta", "usage": {"output_tokens": 58, "input_tokens": 0}}),
        ("message_stop", {"type": "message_stop"}),
    ]
    comment = f": still here{line}{line}".encode()
    return comment + b"".join(event(name, document, line, named=named) for name, document in documents)


STREAMS = [stream(line, named=named) for line in ("\n", "\r\n", "\r") for named in (True, False)]


def read(pieces: list[bytes]) -> tuple[bytes, TokenUsage, SseUsageReader]:
    events, usage = EventBoundary(), TokenUsage()
    notes = SseUsageReader(usage)
    passed = b""
    for piece in pieces:
        passing = events.feed(piece)
        assert notes.read(events.whole) == len(events.whole)
        passed += passing
    rest = events.rest()
    notes.read(rest)
    return passed + rest, usage, notes


@pytest.mark.parametrize("whole", STREAMS)
def test_a_stream_split_at_any_byte_tells_the_same_and_passes_unchanged(whole: bytes) -> None:
    for place in range(len(whole) + 1):
        passed, usage, notes = read([whole[:place], whole[place:]])
        assert passed == whole
        assert usage == TokenUsage(7, 58, 3, 2)
        assert (notes.is_complete, notes.error, notes.model) == (True, None, "claude-sonnet-4-5")


@given(st.sampled_from(STREAMS), st.lists(st.integers(0, 2000), max_size=40))
def test_a_stream_split_anywhere_tells_the_same_and_passes_unchanged(whole: bytes, cuts: list[int]) -> None:
    places = sorted({min(cut, len(whole)) for cut in cuts} | {0, len(whole)})
    passed, usage, notes = read([whole[start:end] for start, end in itertools.pairwise(places)])
    assert passed == whole
    assert (usage, notes.is_complete) == (TokenUsage(7, 58, 3, 2), True)


@pytest.mark.parametrize("whole", STREAMS)
def test_a_stream_byte_by_byte_tells_the_same(whole: bytes) -> None:
    passed, usage, notes = read([whole[at : at + 1] for at in range(len(whole))])
    assert (passed, usage, notes.is_complete) == (whole, TokenUsage(7, 58, 3, 2), True)


@given(st.lists(st.binary(max_size=60) | st.sampled_from([b"\n\n", b"data: ", b"event: ", b'"usage"', b"error"])))
def test_whatever_comes_passes_unchanged(pieces: list[bytes]) -> None:
    events, notes = EventBoundary(), SseUsageReader(TokenUsage())
    passed = b""
    for piece in pieces:
        passed += events.feed(piece)
        notes.read(events.whole)
    assert passed + events.rest() == b"".join(pieces)


@given(st.text())
def test_no_text_of_a_model_is_taken_for_an_event(text: str) -> None:
    usage = TokenUsage()
    notes = SseUsageReader(usage)
    content = event("content_block_delta", delta(text))
    assert notes.read(content) == len(content)
    assert (notes.is_complete, notes.error, usage) == (False, None, TokenUsage())


def test_an_event_too_large_to_hold_is_not_read_and_what_follows_is() -> None:
    huge = event("content_block_delta", delta("x" * 600_000))
    whole = event("message_start", START) + huge + event("message_stop", {"type": "message_stop"})
    for size in (1000, 65_536, 300_000, len(whole) - 1):
        pieces = [whole[at : at + size] for at in range(0, len(whole), size)]
        passed, usage, notes = read(pieces)
        assert passed == whole
        assert (usage.input, notes.is_complete) == (7, True)


def test_the_end_of_a_large_event_may_be_cut_in_its_blank_line() -> None:
    huge = event("content_block_delta", delta("x" * 600_000))
    stop = event("message_stop", {"type": "message_stop"})
    for back in (0, 1, 2):
        cut = len(huge) - back
        assert read([huge[:300_000], huge[300_000:cut], (huge + stop)[cut:]])[2].is_complete


def test_a_stream_whose_last_event_is_too_long_to_be_read_gets_no_error(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("tokenferry.streaming._body_filter._ANSWER_LIMIT", 3_000)
    huge = event("message_stop", {"type": "message_stop", "x": "x" * 5_000})
    for cut, error in ((len(huge), None), (len(huge) - 2, "truncated")):
        stream = EventStreamFilter(TokenUsage(), "tf_1")
        passed = [stream.feed(huge[at : min(at + 1000, cut)]) for at in range(0, cut, 1000)]
        assert b"".join(passed) == huge[:cut]
        assert (bool(stream.end()), stream.error) == (error is not None, error)


def test_an_error_event_is_the_last_that_passes() -> None:
    before, after = event("content_block_delta", delta("a")), event("message_stop", {"type": "message_stop"})
    error = event("error", {"type": "error", "error": {"type": "overloaded_error", "message": "x"}})
    notes = SseUsageReader(TokenUsage())
    assert notes.read(before + error + after) == len(before + error)
    assert (notes.error, notes.is_complete) == ("overloaded_error", False)


@pytest.mark.parametrize(
    "error",
    [
        b"event: error\ndata: overloaded\n\n",
        b'data: {"type":"error"}\n\n',
        b'event:error\ndata:{"type":"error","error":{"type":"Not One\\u001b[31m"}}\n\n',
        b'event: error\ndata: {"error":\ndata: {"type":7}}\n\n',
    ],
)
def test_an_error_of_no_known_type_is_one_all_the_same(error: bytes) -> None:
    notes = SseUsageReader(TokenUsage())
    notes.read(error)
    assert notes.error == "error"


def test_data_of_several_lines_is_one_document() -> None:
    usage = TokenUsage()
    SseUsageReader(usage).read(b'event: message_delta\ndata: {"usage":\ndata:  {"output_tokens"\ndata: : 5}}\n\n')
    assert usage.output == 5


def test_a_zero_erases_no_count_and_only_numbers_count() -> None:
    usage = TokenUsage(5, 6, 7, 8)
    odd: list[object] = [{"input_tokens": 0, "output_tokens": -3}, {"output_tokens": True}, {"output_tokens": 1.5}, []]
    for one in odd:
        usage.take(one)
    usage.take({"cache_read_input_tokens": 10**30, "cache_creation_input_tokens": "9"})
    assert usage == TokenUsage(5, 6, 7, 8)


@pytest.mark.parametrize(
    ("reported", "expected"),
    [
        ([{"input_tokens": 0, "output_tokens": 0}], TokenUsage(0, 0)),
        ([{}], TokenUsage()),
        ([{"output_tokens": 9}, {"output_tokens": 40}, {"output_tokens": 38}], TokenUsage(output=38)),
        # Some count the whole prompt first, and say at the end what of it came from the cache.
        (
            [{"input_tokens": 900, "cache_read_input_tokens": 0}, {"input_tokens": 0, "cache_read_input_tokens": 900}],
            TokenUsage(0, cache_read=900),
        ),
        ([{"input_tokens": 9, "cache_read_input_tokens": 5}, {"input_tokens": 0}], TokenUsage(9, cache_read=5)),
        (
            [
                {
                    "cache_creation_input_tokens": 70,
                    "cache_creation": {"ephemeral_5m_input_tokens": 10, "ephemeral_1h_input_tokens": 60},
                },
                {"cache_creation_input_tokens": 70, "output_tokens": 1},
            ],
            TokenUsage(output=1, cache_creation=70, cache_creation_1h=60),
        ),
        (
            [{"cache_creation": {"ephemeral_5m_input_tokens": 0, "ephemeral_1h_input_tokens": 8}}],
            TokenUsage(cache_creation=8, cache_creation_1h=8),
        ),
        (
            [
                {"speed": "fast", "service_tier": "priority", "inference_geo": "us", "output_tokens": 5},
                {
                    "output_tokens": 7,
                    "output_tokens_details": {"thinking_tokens": 0},
                    "server_tool_use": {"web_search_requests": 3},
                },
            ],
            TokenUsage(
                *(None, 7), thinking=0, web_searches=3, speed="fast", service_tier="priority", inference_geo="us"
            ),
        ),
        ([{"speed": "x" * 33, "service_tier": "\n", "inference_geo": 5, "cache_creation": 3}], TokenUsage()),
    ],
)
def test_usage_is_the_last_that_was_said_of_each(reported: list[object], expected: TokenUsage) -> None:
    usage = TokenUsage()
    for one in reported:
        usage.take(one)
    assert usage == expected


def test_iterations_outside_the_sums_are_added_once() -> None:
    """A compaction and an advisor are billed beside the numbers at the top; a stream repeats both."""
    compaction = {"type": "compaction", "input_tokens": 180_000, "output_tokens": 3500}
    advisor = {"type": "advisor_message", "model": "claude-opus-5", "input_tokens": 800, "output_tokens": 90}
    message = {"type": "message", "input_tokens": 23_000, "output_tokens": 1000}
    last = {
        "input_tokens": 23_000,
        "output_tokens": 1000,
        "iterations": [compaction, message, advisor, 5, {"type": "x"}],
    }
    usage = TokenUsage()
    usage.take({"input_tokens": 23_000, "output_tokens": 1})
    for _ in range(3):
        usage.take(last)
    usage.take({"output_tokens": 1000})
    assert (usage.input, usage.output) == (23_000 + 180_000 + 800, 1000 + 3500 + 90)
    assert usage.others[:2] == (TokenUsage(180_000, 3500), TokenUsage(800, 90, model="claude-opus-5"))


COUNTS = st.dictionaries(
    st.sampled_from(["input_tokens", "output_tokens", "cache_creation_input_tokens", "cache_read_input_tokens"]),
    st.integers(0, 5) | st.integers() | st.none() | st.booleans(),
)


@given(st.lists(COUNTS | st.fixed_dictionaries({"iterations": st.lists(COUNTS, max_size=3)}), max_size=6))
def test_no_order_of_answers_makes_a_count_negative(reported: list[object]) -> None:
    usage = TokenUsage()
    for one in reported:
        usage.take(one)
    counts = (usage.input, usage.output, usage.cache_creation, usage.cache_read)
    assert all(count is None or count >= 0 for count in counts)


@given(st.lists(st.tuples(st.sampled_from(["text", "thinking", "partial_json"]), st.text()), min_size=1))
def test_an_estimate_counts_the_characters_that_passed(parts: list[tuple[str, str]]) -> None:
    content = b"".join(
        event("content_block_delta", {"type": "content_block_delta", "delta": {"type": f"{name}_delta", name: text}})
        for name, text in parts
    )
    characters = sum(len(text) for _, text in parts)
    assert estimated_output(content, len(content)) == -(-characters // 4)
    assert estimated_output(content, 3 * len(content)) == -(-3 * characters // 4)


def usage_of(content: bytes) -> TokenUsage:
    usage = TokenUsage()
    read_usage(content, usage)
    return usage


@pytest.mark.parametrize(
    "content",
    [
        {"usage": {"input_tokens": 1, "output_tokens": 2, "note": "usage"}},
        {"content": [{"input": {"usage": {"output_tokens": 99}}}], "usage": {"input_tokens": 1, "output_tokens": 2}},
        {"usage": {"input_tokens": 1, "output_tokens": 2}, "content": [{"input": {"usage": {"output_tokens": 99}}}]},
        {"content": [{"text": '"usage": {"output_tokens": 99}'}], "usage": {"output_tokens": 2, "input_tokens": 1}},
        {"usage": {"note": "x" * 9000, "output_tokens": 2, "input_tokens": 1}},
    ],
)
def test_a_document_tells_its_own_usage(content: object) -> None:
    assert usage_of(json.dumps(content).encode()) == TokenUsage(1, 2)
    assert usage_of(json.dumps(content, indent=2).encode()) == TokenUsage(1, 2)


@pytest.mark.parametrize(
    "content",
    [b"", b"[]", b"nonsense", b'{"usage": 5}', b'{"usage": {"input_tokens": 1', b"\xff", b'{"usage": {' + b"[" * 9000],
)
def test_other_documents_tell_nothing(content: bytes) -> None:
    assert usage_of(content) == TokenUsage()


def test_a_large_document_is_not_kept() -> None:
    usage = TokenUsage()
    document = DocumentFilter(200, usage, "tf_1", is_readable=True)
    for _ in range(17):
        document.feed(b"x" * 65_536)
    assert document._chunks is None
    document.feed(b'{"usage": {"input_tokens": 1}}')
    document.end()
    assert usage == TokenUsage()


@pytest.mark.parametrize(
    ("data", "document"),
    [
        (b'{"a": 1, "a": [2]}', {"a": [2]}),
        (b'{"a": 1e999, "b": NaN}', {"a": float("inf"), "b": pytest.approx(float("nan"), nan_ok=True)}),
        (
            b'{"a": "\\ud83d", "b": 123456789012345678901234567890}',
            {"a": "\ud83d", "b": 123456789012345678901234567890},
        ),
        *((data, {}) for data in (b"", b"[1]", b"null", b'{"a": 01}', b'{"a": "\xff"}', b'{"a":' * 100_000)),
    ],
)
def test_an_object_is_read_as_clients_read_it(data: bytes, document: dict[str, Any]) -> None:
    assert json_object(data) == document
