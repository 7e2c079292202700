"""Whatever stands in the place of a value: a codec says in one sentence that it can't, or goes on."""

import contextlib
import json
import time
from collections.abc import Iterator
from typing import Any, Final

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from effort import effort
from tokenferry.errors import Unfit, UnreadableAnswer
from tokenferry.wire import WireFormat, codec
from wire.rig import (
    DONE,
    USAGE,
    ask,
    chat_ask,
    fragment,
    from_gemini,
    from_responses,
    gemini_ask,
    gemini_event,
    named,
    responses_ask,
    to_chat,
    to_gemini,
    to_messages,
    to_responses,
)

ODD: Final = tuple(
    map(
        json.dumps,
        [
            None,
            True,
            -1,
            0,
            1.5,
            10**30,
            "",
            "\x00",
            "x" * 300,
            [],
            {},
            [None],
            [[]],
            {"type": "x"},
            [{"type": "text"}],
            {"a": {}},
        ],
    )
)
"""As texts, for what is drawn is changed again."""
CALL: Final = {"type": "tool_use", "id": "toolu_1", "name": "look", "input": {"at": "x"}}
IMAGE: Final = {"type": "image", "source": {"type": "base64", "media_type": "image/png", "data": "AAAA"}}
TOOL: Final = {"name": "look", "description": "d", "input_schema": {"type": "object"}, "strict": True}
REQUEST: Final = ask(
    {"role": "user", "content": [{"type": "text", "text": "a", "cache_control": {"type": "ephemeral"}}, IMAGE]},
    {"role": "assistant", "content": [{"type": "thinking", "thinking": "t", "signature": "s"}, CALL]},
    {"role": "user", "content": [{"type": "tool_result", "tool_use_id": "toolu_1", "content": "r", "is_error": True}]},
    system=[{"type": "text", "text": "s"}],
    tools=[TOOL],
    tool_choice={"type": "tool", "name": "look"},
    thinking={"type": "enabled", "budget_tokens": 2000},
    output_config={"effort": "low", "format": {"type": "json_schema", "schema": {"type": "object"}}},
    stop_sequences=["a"],
    temperature=0.5,
    metadata={"user_id": "u"},
)
CHAT_CALL: Final = {"id": "call_1", "type": "function", "function": {"name": "look", "arguments": "{}"}}
CHAT_REQUEST: Final = chat_ask(
    {"role": "system", "content": "s"},
    {
        "role": "user",
        "content": [{"type": "image_url", "image_url": {"url": "data:image/png;base64,AA", "detail": "x"}}],
    },
    {"role": "assistant", "content": "a", "tool_calls": [CHAT_CALL]},
    {"role": "tool", "tool_call_id": "call_1", "content": "r"},
    tools=[{"type": "function", "function": {"name": "look", "parameters": {"type": "object"}}}],
    tool_choice={"type": "function", "function": {"name": "look"}},
    response_format={"type": "json_schema", "json_schema": {"name": "x", "schema": {"type": "object"}}},
    stream_options={"include_usage": True},
    reasoning_effort="low",
    stop="x",
)
RESPONSES_REQUEST: Final = responses_ask(
    {"type": "message", "role": "developer", "content": "s"},
    {"role": "user", "content": [{"type": "input_image", "image_url": "data:image/png;base64,AA", "detail": "x"}]},
    {"type": "reasoning", "id": "rs_1", "summary": [{"type": "summary_text", "text": "t"}], "encrypted_content": "x"},
    {"type": "function_call", "call_id": "call_1", "name": "look", "arguments": "{}", "namespace": "n"},
    {"type": "function_call_output", "call_id": "call_1", "output": [{"type": "input_text", "text": "r"}]},
    {"type": "custom_tool_call", "call_id": "call_2", "name": "patch", "input": "x"},
    {"type": "custom_tool_call_output", "call_id": "call_2", "output": "r"},
    tools=[
        {"type": "function", "name": "look", "parameters": {"type": "object"}},
        {"type": "custom", "name": "patch", "format": {"type": "grammar", "syntax": "lark", "definition": "x"}},
        {"type": "namespace", "name": "n", "tools": [{"type": "function", "name": "inner"}]},
    ],
    tool_choice={"type": "function", "name": "look"},
    text={"format": {"type": "json_schema", "name": "x", "schema": {"type": "object"}}, "verbosity": "low"},
    reasoning={"effort": "low", "summary": "auto"},
    include=["reasoning.encrypted_content"],
    instructions="s",
    temperature=0.5,
)
GEMINI_REQUEST: Final = gemini_ask(
    {"role": "user", "parts": [{"text": "u"}, {"inlineData": {"mimeType": "text/plain", "data": "AA=="}}]},
    {"role": "model", "parts": [{"functionCall": {"name": "look", "args": {"at": 1}}, "thoughtSignature": "S"}]},
    {"role": "user", "parts": [{"function_response": {"name": "look", "response": {"output": "r"}}}]},
    systemInstruction={"parts": [{"text": "s"}]},
    tools=[{"functionDeclarations": [{"name": "look", "parameters": {"type": "OBJECT", "properties": {"at": {}}}}]}],
    toolConfig={"functionCallingConfig": {"mode": "ANY", "allowedFunctionNames": ["look"]}},
    generationConfig={
        "responseMimeType": "application/json",
        "responseSchema": {"type": "OBJECT", "nullable": True},
        "thinkingConfig": {"includeThoughts": True, "thinkingBudget": 2000},
        "stopSequences": ["a"],
        "topK": 3,
    },
    stream=True,
)
ITEMS: Final = [
    {"type": "reasoning", "id": "rs_1", "summary": [{"type": "summary_text", "text": "t"}], "encrypted_content": "x"},
    {"type": "message", "id": "msg_1", "content": [{"type": "output_text", "text": "a"}]},
    {"type": "function_call", "id": "fc_1", "call_id": "call_1", "name": "look", "arguments": "{}"},
]
RESPONSE: Final = {
    "id": "1",
    "model": "m",
    "status": "completed",
    "output": ITEMS,
    "usage": {"input_tokens": 5, "input_tokens_details": {"cached_tokens": 1}, "output_tokens": 2},
    "incomplete_details": {"reason": "x"},
}
RESPONSE_EVENTS: Final = [
    {"type": "response.created", "response": {"id": "1", "model": "m"}},
    {"type": "response.output_item.added", "output_index": 0, "item": ITEMS[2]},
    {"type": "response.function_call_arguments.delta", "output_index": 0, "item_id": "fc_1", "delta": "{}"},
    {"type": "response.output_item.done", "output_index": 0, "item": ITEMS[2]},
    {"type": "response.output_text.delta", "output_index": 1, "delta": "a"},
    {"type": "response.reasoning_summary_text.delta", "output_index": 2, "summary_index": 0, "delta": "a"},
    {"type": "response.output_item.done", "output_index": 2, "item": ITEMS[0]},
    {"type": "response.completed", "response": RESPONSE},
]
CHOICE: Final = {"index": 0, "message": {"content": "a", "tool_calls": [CHAT_CALL]}, "finish_reason": "stop"}
ANSWER: Final = {"id": "1", "model": "m", "choices": [CHOICE], "usage": USAGE, "error": None}
CHUNK: Final = {
    "id": "1",
    "choices": [
        {
            "index": 0,
            "delta": {"content": "a", **fragment(0, id="c", name="n", arguments="{}")},
            "finish_reason": "stop",
        }
    ],
    "usage": USAGE,
}
GEMINI: Final = {
    "responseId": "1",
    "modelVersion": "m",
    "candidates": [
        {
            "index": 0,
            "content": {
                "role": "model",
                "parts": [
                    {"text": "t", "thought": True},
                    {"text": "a", "thoughtSignature": "S"},
                    {"functionCall": {"name": "look", "args": {"at": "x"}, "id": "1"}, "thoughtSignature": "S"},
                ],
            },
            "finishReason": "STOP",
        }
    ],
    "usageMetadata": {"promptTokenCount": 5, "cachedContentTokenCount": 1, "candidatesTokenCount": 2},
    "promptFeedback": {"blockReason": None},
}
MESSAGE: Final = {
    "id": "1",
    "content": [{"type": "text", "text": "a"}, CALL],
    "stop_reason": "tool_use",
    "usage": {"input_tokens": 1, "output_tokens": 2},
}
EVENTS: Final = [
    {"type": "message_start", "message": {"id": "1", "model": "m", "usage": {"input_tokens": 1}}},
    {"type": "content_block_start", "index": 0, "content_block": CALL},
    {"type": "content_block_delta", "index": 0, "delta": {"type": "input_json_delta", "partial_json": "{}"}},
    {"type": "content_block_stop", "index": 0},
    {"type": "message_delta", "delta": {"stop_reason": "end_turn"}, "usage": {"output_tokens": 3}},
]


def places(document: Any, path: tuple[Any, ...] = ()) -> Iterator[tuple[Any, ...]]:
    """The path of every value in a document."""
    steps = (
        document.items() if isinstance(document, dict) else enumerate(document) if isinstance(document, list) else ()
    )
    for step, value in steps:
        yield (*path, step)
        yield from places(value, (*path, step))


def spoilt(draw: st.DrawFn, document: Any) -> bytes:
    """The document with something odd in up to three places."""
    document = json.loads(json.dumps(document))
    for _ in range(draw(st.integers(1, 3))):
        *way, last = draw(st.sampled_from(list(places(document))))
        inner = document
        for step in way:
            inner = inner[step]
        inner[last] = json.loads(draw(st.sampled_from(ODD)))
        if not list(places(document)):
            break
    return json.dumps(document).encode()


@given(st.data())
@settings(max_examples=effort(300))
def test_a_request_is_translated_or_unfit_with_a_short_reason(data: st.DataObject) -> None:
    pairs = (
        (to_chat(), REQUEST),
        (to_messages(thinking="budget"), CHAT_REQUEST),
        (to_responses(efforts=("low",)), REQUEST),
        (to_gemini(), REQUEST),
        (from_responses(thinking="budget"), RESPONSES_REQUEST),
        (from_gemini(thinking="budget"), GEMINI_REQUEST),
    )
    for using, body in pairs:
        try:
            sent = using.request(data.draw(st.composite(spoilt)(json.loads(body))), "m")
        except Unfit as fault:
            reason = str(fault)
        else:
            reason = ""
            assert json.loads(sent.body).get("model", "m") == "m"
        assert len(reason) < 400


@pytest.mark.parametrize("depth", [10, 300, 450, 600, 5000])
def test_however_deep_a_schema_is_nested_the_reason_is_one_sentence(depth: int) -> None:
    schema = b'{"type":"object","properties":{"a":' * depth + b"{}" + b"}}" * depth
    asked = (
        (to_messages(), chat_ask(response_format={"type": "json_schema", "json_schema": {"name": "x", "schema": "?"}})),
        (from_responses(), responses_ask(text={"format": {"type": "json_schema", "name": "x", "schema": "?"}})),
        (to_chat(), ask(output_config={"format": {"type": "json_schema", "schema": "?"}})),
        (to_responses(), ask(output_config={"format": {"type": "json_schema", "schema": "?"}})),
        (to_gemini(), ask(output_config={"format": {"type": "json_schema", "schema": "?"}})),
    )
    for using, body in asked:
        reason = ""
        try:
            using.request(body.replace(b'"?"', schema), "m")
        except Unfit as fault:
            reason = str(fault)
        assert not reason or (depth > 100 and "nested too deep" in reason)


@given(st.data())
@settings(max_examples=effort(300))
def test_an_answer_is_translated_or_unreadable(data: st.DataObject) -> None:
    cases = (
        (to_chat(), ask(), ANSWER),
        (to_messages(), chat_ask(), MESSAGE),
        (to_responses(), ask(), RESPONSE),
        (to_gemini(), ask(), GEMINI),
        (from_responses(), responses_ask(), MESSAGE),
    )
    for using, asked, answer in cases:
        try:
            found, counted = using.answer(data.draw(st.composite(spoilt)(answer)), using.request(asked, "m"))
        except UnreadableAnswer:
            pass
        else:
            assert json.loads(found)["usage"]
            assert all(count is None or count >= 0 for count in (counted.input, counted.output))


@given(st.data())
@settings(max_examples=effort(300))
def test_a_stream_ends_well_or_with_one_error(data: st.DataObject) -> None:
    chunks = [data.draw(st.composite(spoilt)(CHUNK)) for _ in range(2)]
    events = [data.draw(st.composite(spoilt)(event)) for event in EVENTS]
    response_events = [data.draw(st.composite(spoilt)(event)) for event in RESPONSE_EVENTS]
    cases = (
        (to_chat(), ask(stream=True), chunks),
        (to_messages(), chat_ask(stream=True), events),
        (to_responses(), ask(stream=True), response_events),
        (from_responses(), responses_ask(stream=True), events),
        (to_gemini(), ask(stream=True), [data.draw(st.composite(spoilt)(GEMINI)) for _ in range(2)]),
    )
    for using, asked, pieces in cases:
        stream = using.stream(using.request(asked, "m"), "r")
        out = b"".join(stream.feed(b"data: %b\n\n" % piece) for piece in pieces)
        out += stream.feed(DONE) + stream.end()
        assert out.endswith(b"\n\n")
        assert stream.is_complete == (stream.error is None)
        assert stream.feed(DONE) == stream.end() == stream.fail("x") == b""


@pytest.mark.parametrize("half", ["\\ud800", "\x85"])
def test_half_a_character_in_a_schema_or_a_call_breaks_nothing(half: str) -> None:
    """Parts that pass unread are read late: schemas for Gemini and for answers, and the arguments of Gemini's calls."""
    spoilt_half = half.encode("latin-1")
    tool = {**TOOL, "input_schema": {"type": "object", "title": "@"}}
    form = {"type": "json_schema", "json_schema": {"name": "x", "schema": {"type": "object", "title": "@"}}}
    for using, body in (
        (to_gemini(), ask(tools=[tool])),
        (to_messages(), chat_ask(response_format=form)),
        (to_gemini(), ask(output_config={"format": {"type": "json_schema", "schema": {"title": "@"}}})),
    ):
        with contextlib.suppress(Unfit):
            json.loads(using.request(body.replace(b"@", spoilt_half), "m").body)
    call = {"functionCall": {"name": "look", "args": {"at": "@"}}}
    event = gemini_event(call, finish="STOP", usageMetadata={"promptTokenCount": 1}).replace(b"@", spoilt_half)
    asked = to_gemini().request(ask(), "m")
    with contextlib.suppress(UnreadableAnswer):
        json.loads(to_gemini().answer(event.removeprefix(b"data: "), asked)[0])
    (to_gemini().stream(asked, "r").feed(event)).decode()


@pytest.mark.parametrize("client", ["openai", "openai-responses", "gemini"])
@pytest.mark.parametrize("is_streamed", [False, True])
def test_bytes_that_are_no_text_within_a_calls_input_break_nothing(client: WireFormat, is_streamed: bool) -> None:  # noqa: FBT001
    """Found by the fuzzer: a decoder leaves the inside of what it passes on unread."""
    found = codec(client, "anthropic", domain="up/model")
    assert found is not None
    spoken = b'{"contents":[{"role":"user","parts":[{"text":"hello"}]}]}'
    body = {"openai": chat_ask(), "openai-responses": responses_ask()}.get(client, spoken)
    asked = found.request(body, "model")
    block = b'{"type":"tool_use","id":"toolu_1","name":"look","input":{"at":"\x85"}}'
    if is_streamed:
        head = b'{"type":"content_block_start","index":0,"content_block":' + block + b"}"
        stream = found.stream(asked, "req_1")
        message = named("message_start", message={"id": "m", "model": "m", "usage": {"input_tokens": 1}})
        out = stream.feed(message + b"event: content_block_start\ndata: " + head + b"\n\n") + stream.end()
        out.decode()
        return
    answer = b'{"id":"m","type":"message","role":"assistant","model":"m","content":[' + block + b"],"
    answer += b'"stop_reason":"tool_use","usage":{"input_tokens":1,"output_tokens":1}}'
    with contextlib.suppress(UnreadableAnswer):
        found.answer(answer, asked)[0].decode()


def test_thousands_of_results_in_one_turn_cost_linear_time() -> None:
    """Each result was compared with all before it: 30,000 took 15 s of the gateway's loop, from any client."""
    count = 30_000
    calls = [{"id": f"c{at}", "function": {"name": "f", "arguments": "{}"}} for at in range(count)]
    answers = [{"role": "tool", "tool_call_id": f"c{at}", "content": str(at)} for at in range(count)]
    chat = chat_ask({"role": "assistant", "tool_calls": calls}, {"role": "user", "content": "so"}, *answers)
    gemini = gemini_ask(
        {"role": "model", "parts": [{"functionCall": {"name": "f"}}] * count},
        {"parts": [{"functionResponse": {"name": "f", "response": {"output": str(at)}}} for at in range(count)]},
    )
    before = time.process_time()
    for using, body in ((to_messages(), chat), (from_gemini(), gemini)):
        turns = json.loads(using.request(body, "m").body)["messages"]
        assert [block["content"] for block in turns[1]["content"][:count]] == [str(at) for at in range(count)]
        known = [block["id"] for block in turns[0]["content"]]
        assert [block["tool_use_id"] for block in turns[1]["content"][:count]] == known
    assert time.process_time() - before < 5
