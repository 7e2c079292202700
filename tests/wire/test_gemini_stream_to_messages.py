"""Gemini's answers, streamed and whole, for the Messages API. Numbers name the threads where others met the fault."""

import itertools
import json
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from effort import effort
from tokenferry.errors import UnreadableAnswer
from tokenferry.wire import StreamTranslator
from tokenferry.wire._envelope import seal
from wire.rig import DOMAIN, ask, events, gemini_event, message, to_gemini

USAGE = {
    "promptTokenCount": 100,
    "toolUsePromptTokenCount": 5,
    "cachedContentTokenCount": 60,
    "candidatesTokenCount": 20,
    "thoughtsTokenCount": 7,
    "totalTokenCount": 132,
}
COUNTED = {
    "input_tokens": 45,
    "cache_creation_input_tokens": 0,
    "cache_read_input_tokens": 60,
    "output_tokens": 27,
    "output_tokens_details": {"thinking_tokens": 7},
}


def called(name: str, signature: str | None = None, known: str | None = None, **arguments: Any) -> dict[str, Any]:
    call = {"name": name, "args": arguments} | ({} if known is None else {"id": known})
    return {"functionCall": call} | ({} if signature is None else {"thoughtSignature": signature})


TRANSCRIPT = [
    gemini_event({"text": "let me ", "thought": True}, usageMetadata={"promptTokenCount": 100}),
    gemini_event({"text": "think — ☃", "thought": True}),
    gemini_event({"text": "It is 🌧️"}),
    gemini_event({"text": " outside.\n"}),
    gemini_event(called("weather", "c2ln", "f1", city="Zürich"), called("weather", None, "f2", city="Bern")),
    gemini_event({"text": ""}, finish="STOP", usageMetadata=USAGE),
]
WHOLE = b"".join(TRANSCRIPT)
STOP = gemini_event(finish="STOP", usageMetadata=USAGE)


def translator(**quirks: Any) -> StreamTranslator:
    using = to_gemini(**quirks)
    return using.stream(using.request(ask(stream=True), "m"), "req_1")


def translated(*pieces: bytes) -> bytes:
    stream = translator()
    return b"".join(map(stream.feed, pieces)) + stream.end()


def in_one(*parts: dict[str, Any], finish: str = "STOP") -> tuple[dict[str, Any], dict[str, Any]]:
    """The message of an answer with these parts: as a document and as a stream."""
    event = gemini_event(*parts, finish=finish, usageMetadata=USAGE)
    using = to_gemini()
    document, _ = using.answer(event.removeprefix(b"data: "), using.request(ask(), "m"))
    streamed = message(translated(event))
    assert streamed.pop("over")
    return json.loads(document), streamed


def test_a_whole_answer_with_thoughts_text_and_two_calls() -> None:
    built = message(translated(WHOLE))
    kinds = [block["type"] for block in built["content"]]
    assert kinds == ["thinking", "text", "thinking", "tool_use", "tool_use"]
    assert built["content"][0] == {"type": "thinking", "thinking": "let me think — ☃", "signature": seal(DOMAIN)}
    assert built["content"][1]["text"] == "It is 🌧️ outside.\n"
    assert built["content"][2] == {"type": "thinking", "thinking": "", "signature": seal(DOMAIN, "c2ln")}
    assert [(block["id"], block["input"]) for block in built["content"][3:]] == [
        ("gemini_f1", {"city": "Zürich"}),
        ("gemini_f2", {"city": "Bern"}),
    ]
    assert (built["stop_reason"], built["model"], built["id"]) == ("tool_use", "gemini-3", "msg_r1")
    assert built["usage"] == COUNTED


def test_the_signatures_and_ids_come_back_as_they_were() -> None:
    """What the vendor sent is in the next request, each signature on its own part (CLIProxyAPI#2098)."""
    content = message(translated(WHOLE))["content"]
    results = [
        {"type": "tool_result", "tool_use_id": block["id"], "content": "x"}
        for block in content
        if block["type"] == "tool_use"
    ]
    body = ask(
        {"role": "user", "content": "a"},
        {"role": "assistant", "content": content},
        {"role": "user", "content": results},
    )
    model = json.loads(to_gemini().request(body, "m").body)["contents"][1]["parts"]
    assert model == [
        {"text": "It is 🌧️ outside.\n"},
        called("weather", "c2ln", "f1", city="Zürich"),
        called("weather", None, "f2", city="Bern"),
    ]


def test_one_byte_at_a_time_gives_the_same_as_all_at_once() -> None:
    """farion1231/cc-switch#1923, librefang/librefang#3448: characters split over reads."""
    assert translated(*(WHOLE[at : at + 1] for at in range(len(WHOLE)))) == translated(*TRANSCRIPT)


@given(st.lists(st.integers(0, len(WHOLE)), max_size=8))
@settings(max_examples=effort(50))
def test_however_it_is_cut_into_chunks_the_message_is_the_same(cuts: list[int]) -> None:
    places = [0, *sorted(cuts), len(WHOLE)]
    pieces = [WHOLE[start:end] for start, end in itertools.pairwise(places)]
    assert translated(*pieces) == translated(*TRANSCRIPT)


def test_cut_after_any_byte_it_ends_with_an_error() -> None:
    """dativo-io/talon#254, open-webui/open-webui#29628: a stream without its end looks like a short answer."""
    last = len(WHOLE) - 4  # whole but for the blank line
    for end in range(len(WHOLE)):
        stream = translator()
        out = stream.feed(WHOLE[:end]) + stream.end()
        assert events(out)[-1]["type"] == ("message_stop" if end > last else "error"), end
        assert stream.is_complete == (end > last)


PARTS = st.lists(
    st.one_of(
        st.fixed_dictionaries({"text": st.sampled_from(["", "a", "b"])}, optional={"thoughtSignature": st.just("S")}),
        st.fixed_dictionaries({"text": st.sampled_from(["", "t"]), "thought": st.just(True)}),
        st.sampled_from([called("f"), called("g", "S", "x1", n=1), called("f", None, "a:b")]),
        st.just({"executableCode": {"code": "1"}}),
    ),
    max_size=6,
)


@given(PARTS)
@settings(max_examples=effort(200))
def test_a_document_says_the_same_as_a_stream_and_both_come_back_in_order(parts: list[dict[str, Any]]) -> None:
    try:
        document, streamed = in_one(*parts)
    except UnreadableAnswer:
        assert events(translated(gemini_event(*parts, finish="STOP", usageMetadata=USAGE)))[-1]["type"] == "error"
        return
    assert document == streamed
    calls = [block for block in document["content"] if block["type"] == "tool_use"]
    assert document["stop_reason"] == ("tool_use" if calls else "end_turn")
    assert [one["name"] for one in calls] == [one["functionCall"]["name"] for one in parts if "functionCall" in one]
    assert len({one["id"] for one in calls}) == len(calls) or any("x1" in str(one) for one in parts)
    assert not any(block["type"] == "text" and not block["text"] for block in document["content"])


def test_the_last_block_of_an_answer_in_words_is_its_text() -> None:
    """Claude Code takes the last block for the result; the signature of a text comes after it, and goes unchecked."""
    text = gemini_event({"text": "so"})
    streamed = message(translated(text, gemini_event({"text": "", "thoughtSignature": "S"}, finish="STOP")))
    assert streamed["content"] == [{"type": "text", "text": "so"}]
    for one in in_one({"text": "so", "thoughtSignature": "S"}):
        assert one["content"] == [{"type": "text", "text": "so"}]


def test_stop_beside_calls_is_tool_use_and_without_any_is_not() -> None:
    """litellm#35663: the client never ran the tool."""
    assert [one["stop_reason"] for one in in_one(called("f"))] == ["tool_use"] * 2
    assert [one["stop_reason"] for one in in_one({"text": "so"})] == ["end_turn"] * 2
    assert [one["stop_reason"] for one in in_one({"text": "so"}, finish="MAX_TOKENS")] == ["max_tokens"] * 2
    assert [one["content"] for one in in_one(finish="MAX_TOKENS")] == [[], []]


@pytest.mark.parametrize("reason", ["SAFETY", "RECITATION", "BLOCKLIST", "PROHIBITED_CONTENT", "SPII", "MODEL_ARMOR"])
def test_what_is_filtered_from_some_place_on_is_a_refusal_and_from_the_first_an_error(reason: str) -> None:
    assert [one["stop_reason"] for one in in_one({"text": "so"}, finish=reason)] == ["refusal"] * 2
    fault = events(translated(gemini_event(finish=reason)))[-1]["error"]
    assert (fault["type"], reason in fault["message"]) == ("invalid_request_error", True)
    with pytest.raises(UnreadableAnswer, match=reason) as caught:
        in_one(finish=reason)
    assert caught.value.status == 400


@pytest.mark.parametrize("reason", ["MALFORMED_FUNCTION_CALL", "UNEXPECTED_TOOL_CALL", "OTHER", "LANGUAGE", "NEW_ONE"])
@pytest.mark.parametrize("parts", [(), ({"text": "so"},), (called("f"),)])
def test_a_broken_answer_is_an_error_and_no_empty_turn(reason: str, parts: tuple[dict[str, Any], ...]) -> None:
    """Wei-Shaw/sub2api#7081, decolua/9router#2462, agentjido/req_llm#944: it looked like an empty end_turn."""
    fault = events(translated(gemini_event(*parts, finish=reason, usageMetadata=USAGE)))[-1]
    assert (fault["type"], fault["error"]["type"], reason in fault["error"]["message"]) == ("error", "api_error", True)
    with pytest.raises(UnreadableAnswer, match=reason) as caught:
        in_one(*parts, finish=reason)
    assert caught.value.status == 500


def test_an_empty_answer_and_a_blocked_prompt_are_errors() -> None:
    assert "empty" in events(translated(STOP))[-1]["error"]["message"]
    blocked = (
        b'data: {"promptFeedback": {"blockReason": "PROHIBITED_CONTENT"}, "usageMetadata": {"promptTokenCount": 9}}\n\n'
    )
    fault = events(translated(blocked))[-1]["error"]
    assert (fault["type"], "PROHIBITED_CONTENT" in fault["message"]) == ("invalid_request_error", True)
    using = to_gemini()
    body = blocked.removeprefix(b"data: ")
    with pytest.raises(UnreadableAnswer) as caught:
        using.answer(body, using.request(ask(), "m"))
    status, words = using.error(caught.value.status or 0, body, "r")
    assert (status, json.loads(words)["error"]) == (400, fault)


@pytest.mark.parametrize(
    ("usage", "expected"),
    [
        ({"promptTokenCount": 9}, (9, 0, 0)),
        ({"promptTokenCount": 9, "cachedContentTokenCount": 9, "candidatesTokenCount": 2}, (0, 9, 2)),
        ({"promptTokenCount": 9, "thoughtsTokenCount": 3}, (9, 0, 3)),
    ],
)
def test_counts_that_the_vendor_leaves_out_are_zero(usage: dict[str, int], expected: tuple[int, int, int]) -> None:
    stream = translator()
    stream.feed(gemini_event({"text": "so"}, finish="STOP", usageMetadata=usage))
    assert (stream.usage.input, stream.usage.cache_read, stream.usage.output) == expected
    assert stream.usage.cache_creation == 0


def test_usage_counts_after_the_finish_too_and_is_given_once() -> None:
    """litellm#31091, tingly-dev/tingly-box#1065, mozilla-ai/any-llm#1392: lost, or in two events."""
    last = b"data: " + json.dumps({"usageMetadata": USAGE}).encode() + b"\n\n"
    out = translated(gemini_event({"text": "so"}), gemini_event(finish="STOP"), last)
    assert message(out)["usage"] == COUNTED
    assert message(translated(gemini_event({"text": "so"}, finish="STOP")))["usage"]["output_tokens"] == 0


@pytest.mark.parametrize("before", [b"", gemini_event({"text": "so"}), gemini_event(called("f"))])
def test_an_error_amid_the_stream_never_looks_like_success(before: bytes) -> None:
    """litellm#32475, diegosouzapw/OmniRoute#8210, saberjack/SHTUCodeProxy#4: it became a bare message_stop."""
    stream = translator()
    error = b'data: {"error": {"code": 503, "message": "full", "status": "UNAVAILABLE"}}\n\n'
    last = events(stream.feed(before + error + STOP))[-1]
    assert last["error"] == {"type": "overloaded_error", "message": "full"}
    assert stream.end() == stream.feed(STOP) == b""
    assert (stream.error, stream.is_complete) == ("overloaded_error", False)


@pytest.mark.parametrize("call", [{"name": "f", "args": [1]}, {"args": {}}, {"name": "f", "partialArgs": [{}]}])
def test_a_call_that_is_none_is_an_error(call: dict[str, Any]) -> None:
    assert events(translated(gemini_event({"functionCall": call}), STOP))[-1]["type"] == "error"
    with pytest.raises(UnreadableAnswer):
        in_one({"functionCall": call})


def test_other_candidates_and_other_parts_are_skipped() -> None:
    second = b'data: {"candidates": [{"index": 1, "content": {"parts": [{"text": "b"}]}}]}\n\n'
    built = message(translated(gemini_event({"text": "a"}, {"executableCode": {}}), second, STOP))
    assert [block["text"] for block in built["content"]] == ["a"]
