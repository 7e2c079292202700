"""Random conversations there and back keep what both formats have."""

import json
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from openai.types.responses import ResponseInputItemParam
from openai.types.responses.response_create_params import ResponseCreateParamsNonStreaming
from pydantic import TypeAdapter

from effort import effort
from tokenferry.wire import Sent, codec
from wire.rig import (
    DOMAIN,
    ask,
    from_gemini,
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


CLOSED = {"type": "object", "properties": {"at": {"type": "string"}}, "required": ["at"], "additionalProperties": False}
TOOLS: list[dict[str, Any]] = [
    {"name": "look", "description": "Looks.", "input_schema": CLOSED, "strict": True},
    {"name": "a" * 64, "input_schema": {"type": "object", "properties": {"at": {"type": "integer"}}}},
]
CHOICES = [
    {"type": "auto", "disable_parallel_tool_use": True},
    {"type": "any"},
    {"type": "any", "disable_parallel_tool_use": True},
    {"type": "tool", "name": "look"},
    {"type": "tool", "name": "a" * 64, "disable_parallel_tool_use": True},
    {"type": "none"},
]
SETTINGS = st.fixed_dictionaries(
    {"max_tokens": st.integers(16, 32_000)},
    optional={
        "system": WORDS.map(lambda text: [{"type": "text", "text": text}]),
        "tools": st.just(TOOLS),
        "tool_choice": st.sampled_from(CHOICES),
        "temperature": st.sampled_from([0.0, 0.5]),
        "stop_sequences": st.lists(WORDS, min_size=1, max_size=4),
        "stream": st.just(True),
        "output_config": st.just({"format": {"type": "json_schema", "schema": CLOSED}}),
    },
)


@given(SETTINGS)
@settings(max_examples=effort(100))
def test_the_settings_of_a_request_come_back(asked: dict[str, Any]) -> None:
    asked.update({} if "tools" in asked or "tool_choice" not in asked else {"tools": TOOLS})
    there = to_chat().request(ask(**asked), "claude")
    assert settings_in(to_messages().request(there.body, "m")) == asked
    asked.pop("stop_sequences", None)
    there = to_responses().request(ask(**asked), "claude")
    assert settings_in(from_responses().request(there.body, "m")) == asked


@given(SETTINGS)
@settings(max_examples=effort(100))
def test_the_settings_of_a_request_come_back_from_gemini(asked: dict[str, Any]) -> None:
    """It has no strictness, and no word for one call at a time. A demanded function is the only one that is sent."""
    asked.update({} if "tools" in asked or "tool_choice" not in asked else {"tools": TOOLS})
    there = to_gemini().request(ask(**asked), "claude")
    assert there.stream == asked.get("stream", False)
    body = json.dumps({**json.loads(there.body), "model": "m", "stream": there.stream}).encode()
    choice = asked.get("tool_choice", {})
    choice.pop("disable_parallel_tool_use", None)
    if "tools" in asked:
        asked["tools"] = [
            {name: value for name, value in tool.items() if name != "strict"}
            for tool in TOOLS
            if choice.get("name", tool["name"]) == tool["name"]
        ]
    assert settings_in(from_gemini().request(body, "m")) == asked


def settings_in(found: Sent) -> dict[str, Any]:
    assert found.left_out == ()
    return {name: value for name, value in json.loads(found.body).items() if name not in {"model", "messages"}}


@pytest.mark.parametrize(("budget", "effort_"), [(4096, "low"), (16_384, "medium"), (32_000, "high")])
def test_the_effort_of_a_thinking_model_comes_back(budget: int, effort_: str) -> None:
    by_budget = {"thinking": {"type": "enabled", "budget_tokens": budget}}
    by_effort = {"thinking": {"type": "adaptive"}, "output_config": {"effort": effort_}}
    known = {"efforts": ("low", "medium", "high")}
    pairs = (to_chat(**known), to_messages), (to_responses(**known), from_responses), (to_gemini(), from_gemini)
    for there, back in pairs:
        for asked in (by_budget, by_effort):
            sent = json.loads(there.request(ask(max_tokens=64_000, **asked), "m").body)
            body = json.dumps({**sent, "model": "m"}).encode()
            assert settings_in(back(thinking="budget").request(body, "m")) == {**by_budget, "max_tokens": 64_000}
            assert settings_in(back(thinking="adaptive").request(body, "m")) == {**by_effort, "max_tokens": 64_000}
