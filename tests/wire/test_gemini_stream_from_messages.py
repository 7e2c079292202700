"""Streamed Messages answers as streamed ones of Gemini."""

import itertools
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from effort import effort
from tokenferry.wire import StreamTranslator
from wire.rig import chunks, from_gemini, gemini_ask, sent
from wire.rig import named as event
from wire.test_from_gemini import RESULT, model, user
from wire.test_stream_from_messages import CUT, END, START, TRANSCRIPT, WHOLE, block

SHOWN = {"generationConfig": {"thinkingConfig": {"includeThoughts": True}}}


def translator(**fields: Any) -> StreamTranslator:
    using = from_gemini()
    return using.stream(using.request(gemini_ask(stream=True, **fields), "m"), "req_1")


def translated(*pieces: bytes, **fields: Any) -> bytes:
    stream = translator(**fields)
    return b"".join(map(stream.feed, pieces)) + stream.end()


def parts_in(out: bytes) -> list[dict[str, Any]]:
    return [part for one in chunks(out) for part in one["candidates"][0]["content"]["parts"]]


def reasons(out: bytes) -> list[str]:
    return [one["candidates"][0]["finishReason"] for one in chunks(out) if "finishReason" in one["candidates"][0]]


def test_a_whole_answer_is_parts_and_an_end() -> None:
    out = translated(*TRANSCRIPT, **SHOWN)
    thought, text, call, second, last = parts_in(out)
    assert thought == {"text": "hm", "thought": True}
    assert text["text"] == "It is 🌧️"
    assert call["functionCall"] == {"name": "weather", "args": {"city": "Zürich"}, "id": "toolu_1"}
    assert second["functionCall"] == {"name": "time", "args": {}, "id": "toolu_2"}
    assert last == {"text": ""}, "chats of the SDKs forget an answer with an event that has no part"
    read = list(chunks(out))
    assert {(one["responseId"], one["modelVersion"]) for one in read} == {("msg_1", "claude")}
    assert reasons(out) == ["STOP"]
    assert [one.get("usageMetadata") for one in read[:-1]] == [None] * (len(read) - 1)
    assert read[-1]["usageMetadata"] == {
        "promptTokenCount": 100,
        "candidatesTokenCount": 20,
        "totalTokenCount": 120,
        "cachedContentTokenCount": 50,
    }
    assert all(line.startswith(b"data: {") for line in out.split(b"\n\n") if line), "SDKs take whatever else for JSON"


def test_its_thoughts_come_back_from_the_next_part() -> None:
    kept = parts_in(translated(*TRANSCRIPT))
    body, _ = sent(gemini_ask(user({"text": "x"}), model(*kept[:2]), user(RESULT)), from_gemini())
    assert body["messages"][1]["content"][0] == {"type": "thinking", "thinking": "hm", "signature": "s"}


def test_thoughts_that_nothing_follows_are_in_the_last_event() -> None:
    redacted = [
        event("content_block_start", index=1, content_block={"type": "redacted_thinking", "data": "d"}),
        event("content_block_stop", index=1),
    ]
    out = translated(START, *TRANSCRIPT[2:6], *redacted, *END)
    (part,) = parts_in(out)
    assert part["text"] == ""
    body, _ = sent(gemini_ask(user({"text": "x"}), model(part, {"text": "so"}), user({"text": "y"})), from_gemini())
    assert [one["type"] for one in body["messages"][1]["content"]] == ["thinking", "redacted_thinking", "text"]


@given(st.lists(st.integers(0, len(WHOLE)), max_size=8))
@settings(max_examples=effort(60))
def test_however_it_is_cut_into_chunks_the_bytes_are_the_same(cuts: list[int]) -> None:
    places = [0, *sorted(cuts), len(WHOLE)]
    pieces = [WHOLE[start:end] for start, end in itertools.pairwise(places)]
    assert translated(*pieces) == translated(*TRANSCRIPT)


def test_one_byte_at_a_time_gives_the_same_as_all_at_once() -> None:
    assert translated(*(WHOLE[at : at + 1] for at in range(len(WHOLE)))) == translated(WHOLE)


def test_cut_after_any_byte_it_ends_with_an_error_and_without_a_reason() -> None:
    whole = WHOLE.index(b'"message_stop"}')
    for end in range(len(WHOLE)):
        out = list(chunks(translated(WHOLE[:end])))
        is_whole = end > whole + len(b'"message_stop"}')
        assert ("error" in out[-1]) != is_whole
        assert any("finishReason" in one["candidates"][0] for one in out if "error" not in one) == is_whole


@pytest.mark.parametrize("before", [b"", START, b"".join(TRANSCRIPT[:6])], ids=["first", "amid", "after text"])
def test_an_error_amid_the_stream_is_the_last_event(before: bytes) -> None:
    stream = translator()
    error = {"type": "overloaded_error", "message": "Overloaded"}
    out = stream.feed(before + event("error", error=error) + b"".join(END)) + stream.end()
    last = list(chunks(out))[-1]
    assert last == {"error": {"code": 503, "message": "Overloaded", "status": "UNAVAILABLE"}}
    assert out.split(b"\n\n")[-2].startswith(b'data: {"error":'), "as Google's SDK looks for it"
    assert (stream.error, stream.is_complete) == ("unavailable", False)


@pytest.mark.parametrize(
    "text",
    [
        b"data: \x00\n\n",
        event("content_block_delta", index=0, delta={"type": "text_delta", "text": "before the start"}),
        event("message_stop"),
        b"x" * (9 << 20),
    ],
    ids=range(4),
)
def test_a_hostile_event_is_one_error_and_the_end(text: bytes) -> None:
    stream = translator()
    assert [list(one) for one in chunks(stream.feed(text))] == [["error"]]
    assert stream.feed(WHOLE) == stream.end() == b""


@pytest.mark.parametrize(
    ("reason", "finish"),
    [
        ("end_turn", "STOP"),
        ("max_tokens", "MAX_TOKENS"),
        ("refusal", "SAFETY"),
        ("model_context_window_exceeded", "MAX_TOKENS"),
    ],
)
def test_finish_reasons(reason: str, finish: str) -> None:
    out = translated(START, event("message_delta", delta={"stop_reason": reason}), event("message_stop"))
    assert reasons(out) == [finish]


def test_a_ping_and_a_comment_give_nothing_that_an_sdk_would_read() -> None:
    stream = translator()
    assert stream.feed(b": hold on\n\n") == stream.feed(event("ping")) == b""


def test_a_call_that_the_most_tokens_cut_is_not_made() -> None:
    end = event("message_delta", delta={"stop_reason": "max_tokens"}, usage={"output_tokens": 5})
    out = translated(START, *block(0, "tool_use", CUT, id="t", name="f", input={}), end, event("message_stop"))
    assert parts_in(out) == [{"text": ""}]
    assert reasons(out) == ["MAX_TOKENS"]


def test_blocks_that_bring_more_than_their_deltas_are_whole() -> None:
    given = {"type": "input_json_delta", "partial_json": ""}
    pieces = [
        *block(0, "text", {"type": "text_delta", "text": "b"}, text="a"),
        *block(1, "tool_use", given, id="t", name="f", input={"x": 1}),
    ]
    out = translated(START, *pieces, *END)
    assert "".join(part.get("text", "") for part in parts_in(out)) == "ab"
    assert parts_in(out)[-2]["functionCall"]["args"] == {"x": 1}
