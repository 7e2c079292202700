"""Random conversations there and back keep what both formats have."""

import json
from typing import Any

from hypothesis import given, settings
from hypothesis import strategies as st
from openai.types.responses import ResponseInputItemParam
from openai.types.responses.response_create_params import ResponseCreateParamsNonStreaming
from pydantic import TypeAdapter

from effort import effort
from tokenferry.wire import codec
from wire.rig import (
    DOMAIN,
    ask,
    from_responses,
    message,
    responses_ask,
    to_chat,
    to_gemini,
    to_messages,
    to_responses,
    translated,
)
from wire.rig import named as event

CHARACTERS = st.characters(codec="utf-8")
WORDS = st.text(CHARACTERS, min_size=1, max_size=30).filter(str.strip)
VALUES: st.SearchStrategy[Any] = st.recursive(
    st.none() | st.booleans() | st.integers(-(10**9), 10**9) | st.text(CHARACTERS),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=5), inner, max_size=3),
    max_leaves=6,
)
SENT = TypeAdapter(ResponseCreateParamsNonStreaming)
ITEM: TypeAdapter[Any] = TypeAdapter(ResponseInputItemParam)
MARK = {"cache_control": {"type": "ephemeral"}}
IMAGE = {"type": "image", "source": {"type": "base64", "media_type": "image/png", "data": "AAAA"}}
THOUGHT = {"type": "thinking", "thinking": "hm", "signature": "of another"}


@st.composite
def conversations(draw: st.DrawFn) -> list[dict[str, Any]]:
    """Turns of a user and an assistant: each call has its result, some texts have a cache mark."""
    turns: list[dict[str, Any]] = []
    results: list[dict[str, Any]] = []
    number = 0
    for _ in range(draw(st.integers(1, 4))):
        parts = [
            {"type": "text", "text": words, **draw(st.sampled_from(({}, MARK)))}
            for words in draw(st.lists(WORDS, min_size=1, max_size=2))
        ]
        turns.append({"role": "user", "content": results + parts + draw(st.sampled_from(([], [IMAGE])))})
        inputs = draw(st.lists(st.dictionaries(st.text(max_size=5), VALUES, max_size=3), max_size=3))
        calls = [
            {"type": "tool_use", "id": f"toolu_{number + place}", "name": f"tool_{place}", "input": given}
            for place, given in enumerate(inputs)
        ]
        number += len(calls)
        said = [{"type": "text", "text": draw(WORDS)}] if draw(st.booleans()) or not calls else []
        turns.append({"role": "assistant", "content": draw(st.sampled_from(([], [THOUGHT]))) + said + calls})
        results = [{"type": "tool_result", "tool_use_id": call["id"], "content": draw(WORDS)} for call in calls]
    turns.append({"role": "user", "content": [*results, {"type": "text", "text": "and?"}]})
    return turns


def plain(turn: dict[str, Any]) -> dict[str, Any]:
    """A turn without what Chat has no word for."""
    blocks = [{name: value for name, value in block.items() if name != "cache_control"} for block in turn["content"]]
    return {"role": turn["role"], "content": [block for block in blocks if block["type"] != "thinking"]}


@given(conversations())
@settings(max_examples=effort(100))
def test_a_conversation_comes_back_as_it_was(turns: list[dict[str, Any]]) -> None:
    there = to_chat().request(ask(*turns), "m")
    back = to_messages().request(there.body, "m")
    assert json.loads(back.body)["messages"] == [plain(turn) for turn in turns]
    assert set(there.left_out) <= {"cache_control", "thinking"}
    assert back.left_out == ()


@given(conversations())
@settings(max_examples=effort(100))
def test_a_conversation_comes_back_from_gemini_as_it_was(turns: list[dict[str, Any]]) -> None:
    """But for ids: Gemini takes back those alone that it gave."""
    there = to_gemini().request(ask(*turns), "m")
    back = codec("gemini", "anthropic", domain=DOMAIN)
    assert back is not None
    body = json.dumps({**json.loads(there.body), "model": "m", "stream": False}).encode()
    found = json.loads(back.request(body, "m").body)["messages"]
    ids = [block["id"] for turn in found for block in turn["content"] if block["type"] == "tool_use"]
    known = [block["id"] for turn in turns for block in turn["content"] if block["type"] == "tool_use"]
    mended = json.loads(_replaced(json.dumps(found), dict(zip(ids, known, strict=True))))
    assert mended == [plain(turn) for turn in turns]
    assert set(there.left_out) <= {"cache_control", "thinking"}


def _replaced(text: str, names: dict[str, str]) -> str:
    for name, other in names.items():
        text = text.replace(json.dumps(name), json.dumps(other))
    return text


@given(conversations())
@settings(max_examples=effort(100))
def test_a_conversation_comes_back_from_responses_as_it_was(turns: list[dict[str, Any]]) -> None:
    there = to_responses().request(ask(*turns), "m")
    back = from_responses().request(there.body, "m")
    assert json.loads(back.body)["messages"] == [plain(turn) for turn in turns]
    assert set(there.left_out) <= {"cache_control", "thinking"}
    assert set(back.left_out) <= {"detail"}


@given(conversations())
@settings(max_examples=effort(50))
def test_what_is_sent_to_responses_lies_within_the_vendors_schema(turns: list[dict[str, Any]]) -> None:
    """farion1231/cc-switch#3841, CaddyGlow/ccproxy-api#59, decolua/9router#1468: fields leaked, and were refused."""
    hints = {"metadata": {"user_id": "u"}, "thinking": {"type": "adaptive"}, "top_k": 3, "context_management": {"x": 1}}
    tools = [{"name": "tool_0", "input_schema": {"type": "object"}, **MARK}]
    sent = json.loads(to_responses(efforts=("low", "high")).request(ask(*turns, tools=tools, **hints), "m").body)
    assert SENT.validate_python(sent, strict=True, extra="forbid") is not None
    for item in sent["input"]:
        assert ITEM.validate_python(item, extra="forbid") is not None


@given(conversations())
@settings(max_examples=effort(50))
def test_an_answer_streamed_through_responses_and_back_says_the_same(turns: list[dict[str, Any]]) -> None:
    blocks = turns[1]["content"]
    there, back = from_responses(), to_responses()
    stream = there.stream(there.request(responses_ask(stream=True), "m"), "r")
    stream_back = back.stream(back.request(ask(stream=True), "m"), "r")
    out = stream_back.feed(stream.feed(_events(blocks)) + stream.end()) + stream_back.end()
    content = message(out)["content"]
    assert [{**block, "signature": ""} if "thinking" in block else block for block in content] == [
        {**block, "signature": ""} if "thinking" in block else block for block in blocks
    ]


@given(conversations())
@settings(max_examples=effort(50))
def test_an_answer_streamed_there_and_back_says_the_same(turns: list[dict[str, Any]]) -> None:
    blocks = plain(turns[1])["content"]
    back = codec("openai", "anthropic")
    assert back is not None
    stream = back.stream(
        back.request(b'{"model": "m", "messages": [{"role": "user", "content": "x"}], "stream": true}', "m"), "r"
    )
    out = stream.feed(_events(blocks)) + stream.end()
    built = message(translated(out))
    assert built["content"] == blocks
    assert built["stop_reason"] == ("tool_use" if any(block["type"] == "tool_use" for block in blocks) else "end_turn")


def _events(blocks: list[dict[str, Any]]) -> bytes:
    out = event("message_start", message={"id": "msg_1", "model": "m"})
    for index, block in enumerate(blocks):
        if block["type"] == "text":
            begun: dict[str, Any] = {"type": "text", "text": ""}
            delta = {"type": "text_delta", "text": block["text"]}
        elif block["type"] == "thinking":
            begun = {"type": "thinking", "thinking": "", "signature": ""}
            delta = {"type": "thinking_delta", "thinking": block["thinking"]}
        else:
            begun = {**block, "input": {}}
            delta = {"type": "input_json_delta", "partial_json": json.dumps(block["input"])}
        out += event("content_block_start", index=index, content_block=begun)
        out += event("content_block_delta", index=index, delta=delta)
        out += event("content_block_stop", index=index)
    return out + event("message_delta", delta={"stop_reason": "tool_use"}) + event("message_stop")
