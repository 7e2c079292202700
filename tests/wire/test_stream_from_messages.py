"""Streamed Messages answers as Chat completions."""

import itertools
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from openai.types.chat import ChatCompletionChunk

from effort import effort
from tokenferry.wire import StreamTranslator
from wire.rig import DONE, chat_ask, chunks, to_messages
from wire.rig import named as event


def block(index: int, kind: str, *deltas: dict[str, Any], **fields: Any) -> list[bytes]:
    begun = event("content_block_start", index=index, content_block={"type": kind, **fields})
    return [
        begun,
        *(event("content_block_delta", index=index, delta=delta) for delta in deltas),
        event("content_block_stop", index=index),
    ]


USAGE = {"input_tokens": 40, "cache_read_input_tokens": 50, "cache_creation_input_tokens": 10, "output_tokens": 1}
START = event("message_start", message={"id": "msg_1", "model": "claude", "usage": USAGE})
END = [
    event("message_delta", delta={"stop_reason": "tool_use"}, usage={"output_tokens": 20}),
    event("message_stop"),
]
TRANSCRIPT = [
    START,
    event("ping"),
    *block(0, "thinking", {"type": "thinking_delta", "thinking": "hm"}, {"type": "signature_delta", "signature": "s"}),
    *block(1, "text", {"type": "text_delta", "text": "It is 🌧️"}, text=""),
    *block(2, "server_tool_use", {"type": "input_json_delta", "partial_json": "{}"}, id="s", name="web_search"),
    *block(
        3,
        "tool_use",
        {"type": "input_json_delta", "partial_json": ""},
        {"type": "input_json_delta", "partial_json": '{"city":'},
        {"type": "input_json_delta", "partial_json": ' "Zürich"}'},
        id="toolu_1",
        name="weather",
        input={},
    ),
    *block(4, "tool_use", id="toolu_2", name="time", input={}),
    *END,
]
WHOLE = b"".join(TRANSCRIPT)


def translator(**options: Any) -> StreamTranslator:
    using = to_messages()
    body = chat_ask(stream=True, stream_options={"include_usage": True, **options})
    return using.stream(using.request(body, "m", at=9), "req_1")


def translated(*pieces: bytes, **options: Any) -> bytes:
    stream = translator(**options)
    return b"".join(map(stream.feed, pieces)) + stream.end()


def test_a_whole_answer_as_the_sdk_reads_it() -> None:
    out = translated(*TRANSCRIPT)
    assert out.endswith(DONE)
    assert b": ping\n\n" in out
    read = [ChatCompletionChunk.model_validate(one, strict=True) for one in chunks(out)]
    assert {(one.id, one.created, one.model) for one in read} == {("msg_1", 9, "claude")}
    deltas = [one.choices[0].delta for one in read if one.choices]
    assert deltas[0].role == "assistant"
    assert "".join(delta.content or "" for delta in deltas) == "It is 🌧️"
    calls: dict[int, list[str]] = {}
    for delta in deltas:
        for call in delta.tool_calls or ():
            assert call.function is not None
            known = calls.setdefault(call.index, ["", "", ""])
            for place, part in enumerate((call.id, call.function.name, call.function.arguments)):
                known[place] += part or ""
    assert calls == {0: ["toolu_1", "weather", '{"city": "Zürich"}'], 1: ["toolu_2", "time", "{}"]}
    assert [one.choices[0].finish_reason for one in read if one.choices and one.choices[0].finish_reason] == [
        "tool_calls"
    ]
    assert [one.get("choices") for one in chunks(out)][-1] == []
    usage = read[-1].usage
    assert usage is not None
    assert (usage.prompt_tokens, usage.completion_tokens, usage.total_tokens) == (100, 20, 120)
    assert usage.prompt_tokens_details is not None
    assert usage.prompt_tokens_details.cached_tokens == 50
    assert any(one["choices"] and one["choices"][0]["delta"].get("reasoning_content") == "hm" for one in chunks(out))


def test_text_in_the_beginning_of_a_block_is_not_lost() -> None:
    out = translated(START, *block(0, "text", {"type": "text_delta", "text": " is"}, text="It"), *END)
    deltas = [one["choices"][0]["delta"] for one in chunks(out) if one["choices"]]
    assert "".join(delta.get("content") or "" for delta in deltas) == "It is"


def test_usage_is_given_only_if_it_was_asked_for() -> None:
    out = translated(*TRANSCRIPT, include_usage=False)
    assert not any("usage" in one for one in chunks(out))
    assert out.endswith(DONE)


@given(st.lists(st.integers(0, len(WHOLE)), max_size=8))
@settings(max_examples=effort(100))
def test_however_it_is_cut_into_chunks_the_bytes_are_the_same(cuts: list[int]) -> None:
    places = [0, *sorted(cuts), len(WHOLE)]
    pieces = [WHOLE[start:end] for start, end in itertools.pairwise(places)]
    assert translated(*pieces) == translated(*TRANSCRIPT)


def test_one_byte_at_a_time_gives_the_same_as_all_at_once() -> None:
    assert translated(*(WHOLE[at : at + 1] for at in range(len(WHOLE)))) == translated(WHOLE)


def test_cut_after_any_byte_it_ends_with_an_error_and_without_done() -> None:
    """dativo-io/talon#254, open-webui/open-webui#29628: a stream without its end looks like a short answer."""
    whole = WHOLE.index(b'"message_stop"}')
    for end in range(len(WHOLE)):
        out = translated(WHOLE[:end])
        assert out.endswith(DONE) == (end > whole + len(b'"message_stop"}'))
        assert out.endswith(DONE) or "error" in list(chunks(out))[-1]


@pytest.mark.parametrize("before", [b"", START, b"".join(TRANSCRIPT[:6])], ids=["first", "amid", "after text"])
def test_an_error_amid_the_stream_is_one_and_there_is_no_done(before: bytes) -> None:
    """litellm#32475, diegosouzapw/OmniRoute#8210, saberjack/SHTUCodeProxy#4."""
    stream = translator()
    error = {"type": "overloaded_error", "message": "Overloaded"}
    out = stream.feed(before + event("error", error=error) + b"".join(END)) + stream.end()
    last = list(chunks(out))[-1]
    assert last["error"] == {
        "message": "Overloaded",
        "type": "server_error",
        "param": None,
        "code": "server_is_overloaded",
    }
    assert DONE not in out
    assert stream.error == "server_error"
    assert not stream.is_complete


@pytest.mark.parametrize(
    "text",
    [
        b"data: \x00\n\n",
        b"data: [1]\n\n",
        event("content_block_delta", index="x"),
        event("content_block_delta", index=0, delta={"type": "text_delta", "text": 1}),
        event("content_block_delta", index=0, delta={"type": "text_delta", "text": "before the start"}),
        event("message_stop"),
        b"data: " + b"[" * 200_000 + b"\n\n",
        b"x" * (9 << 20),
    ],
    ids=range(8),
)
def test_a_hostile_event_is_one_error_and_the_end(text: bytes) -> None:
    stream = translator()
    assert [list(one) for one in chunks(stream.feed(text))] == [["error"]]
    assert stream.feed(WHOLE) == stream.end() == b""


@pytest.mark.parametrize(
    ("reason", "finish"),
    [
        ("end_turn", "stop"),
        ("stop_sequence", "stop"),
        ("pause_turn", "stop"),
        ("max_tokens", "length"),
        ("model_context_window_exceeded", "length"),
        ("refusal", "content_filter"),
    ],
)
def test_finish_reasons(reason: str, finish: str) -> None:
    out = translated(START, event("message_delta", delta={"stop_reason": reason}), event("message_stop"))
    assert [one["choices"][0]["finish_reason"] for one in chunks(out) if one["choices"]][-1] == finish


def test_a_ping_or_a_comment_tells_the_client_to_wait() -> None:
    stream = translator()
    assert stream.feed(b": hold on\n\n") == stream.feed(event("ping")) == b": ping\n\n"


CUT = {"type": "input_json_delta", "partial_json": '{"x":'}


@pytest.mark.parametrize(
    "pieces",
    [
        [*block(0, "text", {"type": "text_delta", "text": "abc"}, text="")],
        [*block(0, "text", text=""), event("message_delta", delta={"stop_reason": None}, usage={"output_tokens": 5})],
        [*block(0, "tool_use", CUT, id="t", name="f", input={}), END[0]],
        [*block(0, "tool_use", CUT, id="t", name="f", input={})[:-1], END[0]],
    ],
    ids=["no message_delta", "no stop reason", "a call cut", "a call cut in an open block"],
)
def test_an_answer_that_does_not_end_well_is_an_error(pieces: list[bytes]) -> None:
    out = translated(START, *pieces, event("message_stop"))
    assert DONE not in out
    assert "error" in list(chunks(out))[-1]


def test_a_call_may_be_cut_by_the_most_tokens() -> None:
    end = event("message_delta", delta={"stop_reason": "max_tokens"}, usage={"output_tokens": 5})
    out = translated(START, *block(0, "tool_use", CUT, id="t", name="f", input={}), end, event("message_stop"))
    assert out.endswith(DONE)
