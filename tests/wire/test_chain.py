"""Clients of one of OpenAI's formats before upstreams of the other, through the Messages API."""

import itertools
import json
from typing import Any

import pytest
from openai.types.chat import ChatCompletion, ChatCompletionChunk
from openai.types.responses import Response

from tokenferry.wire import Codec, Quirks, WireFormat, codec
from wire.rig import (
    DOMAIN,
    DONE,
    THIRD,
    USAGE,
    ask,
    chat_ask,
    chunk,
    chunks,
    events,
    fragment,
    gemini_ask,
    gemini_event,
    named,
    responses_ask,
    sent,
)

EFFORTS = ("low", "medium", "high")


def responses_on_chat(**quirks: Any) -> Codec:
    found = codec("openai-responses", "openai", Quirks(**quirks), domain=DOMAIN)
    assert found is not None
    return found


def chat_on_responses(**quirks: Any) -> Codec:
    found = codec("openai", "openai-responses", Quirks(**quirks), domain=DOMAIN)
    assert found is not None
    return found


CHAT_CALL = {"id": "call_1", "type": "function", "function": {"name": "look", "arguments": '{"at":"x"}'}}
CHAT = chat_ask(
    {"role": "system", "content": "You look."},
    {"role": "user", "content": "look"},
    {"role": "assistant", "content": "I will.", "tool_calls": [CHAT_CALL]},
    {"role": "tool", "tool_call_id": "call_1", "content": "seen"},
    tools=[{"type": "function", "function": {"name": "look", "parameters": {"type": "object"}}}],
    reasoning_effort="high",
    temperature=1.5,
    stream=True,
    stream_options={"include_usage": True},
)
PATCH = {"type": "custom", "name": "apply_patch"}
RESPONSES = responses_ask(
    {"role": "user", "content": "patch"},
    {"type": "custom_tool_call", "call_id": "call_1", "name": "apply_patch", "input": "*** Begin"},
    {"type": "custom_tool_call_output", "call_id": "call_1", "output": "ok"},
    tools=[PATCH],
    reasoning={"effort": "high", "summary": "auto"},
    stream=True,
    client_metadata={"a": "b"},
)


def test_a_chat_request_on_responses() -> None:
    """Claude's own rules about thinking and temperatures do not hold, since it isn't Claude that is asked."""
    found, remembered = sent(CHAT, chat_on_responses(efforts=EFFORTS))
    assert [item["type"] for item in found["input"]] == ["message", "message", "function_call", "function_call_output"]
    assert (found["instructions"], found["stream"]) == ("You look.", True)
    assert found["reasoning"] == {"effort": "high", "summary": "auto"}
    assert remembered.left_out == ("temperature",), "a model that reasons refuses it"
    found, remembered = sent(CHAT, chat_on_responses())
    assert (found["temperature"], remembered.left_out) == (1.5, ("reasoning_effort",))


def test_a_responses_request_on_chat() -> None:
    found, remembered = sent(RESPONSES, responses_on_chat(efforts=EFFORTS))
    assert [message["role"] for message in found["messages"]] == ["user", "assistant", "tool"]
    arguments = found["messages"][1]["tool_calls"][0]["function"]["arguments"]
    assert json.loads(arguments) == {"input": "*** Begin"}
    assert found["reasoning_effort"] == "high"
    assert remembered.left_out == ("client_metadata",)


def test_a_chat_stream_for_a_client_of_responses() -> None:
    using = responses_on_chat()
    pieces = [
        chunk({"reasoning_content": "hm"}),
        chunk({"content": "so"}),
        chunk(fragment(0, id="c", name="apply_patch", arguments='{"input": "*** Begin"}')),
        chunk(finish="tool_calls"),
        chunk(usage=USAGE, choices=[]),
        DONE,
    ]
    stream = using.stream(using.request(RESPONSES, "m"), "r")
    out = events(b"".join(map(stream.feed, pieces)) + stream.end())
    answer = out[-1]["response"]
    assert [item["type"] for item in answer["output"]] == ["reasoning", "message", "custom_tool_call"]
    assert answer["output"][2]["input"] == "*** Begin"
    assert answer["usage"]["input_tokens"] == 100
    assert (stream.is_complete, stream.error, stream.usage.input) == (True, None, 40)
    Response.model_validate(answer)


def test_reasoning_of_a_chat_upstream_goes_back_to_it_through_a_client_of_responses() -> None:
    """earendil-works/pi#3636, SaladDay/cc-switch-cli#170: such models refuse calls without their reasoning."""
    using = responses_on_chat(returns_reasoning=True)
    pieces = [
        chunk({"reasoning_content": "hm"}),
        chunk(fragment(0, id="call_1", name="look", arguments="{}")),
        chunk(finish="tool_calls"),
        DONE,
    ]
    stream = using.stream(using.request(RESPONSES, "m"), "r")
    output = events(b"".join(map(stream.feed, pieces)))[-1]["response"]["output"]
    result = {"type": "function_call_output", "call_id": "call_1", "output": "ok"}
    found, _ = sent(responses_ask({"role": "user", "content": "a"}, *output, result), using)
    assert found["messages"][1]["reasoning_content"] == "hm"


def test_a_responses_stream_for_a_client_of_chat() -> None:
    using = chat_on_responses()
    call = {"type": "function_call", "call_id": "call_1", "name": "look", "arguments": "{}"}
    pieces = [
        named("response.created", response={"id": "resp_1", "model": "gpt"}),
        named("response.output_text.delta", output_index=0, delta="so"),
        named("response.output_item.done", output_index=0, item={"type": "message"}),
        named("response.output_item.done", output_index=1, item=call),
        named("response.completed", response={"usage": {"input_tokens": 100, "output_tokens": 20}}),
    ]
    stream = using.stream(using.request(CHAT, "m"), "r")
    out = b"".join(map(stream.feed, pieces)) + stream.end()
    read = [ChatCompletionChunk.model_validate(one, strict=True) for one in chunks(out)]
    assert "".join(one.choices[0].delta.content or "" for one in read if one.choices) == "so"
    assert (read[-2].choices[0].finish_reason, out.endswith(DONE)) == ("tool_calls", True)
    assert read[-1].usage is not None
    assert read[-1].usage.prompt_tokens == 100


def test_whole_answers() -> None:
    using = chat_on_responses()
    output = [{"type": "message", "content": [{"type": "output_text", "text": "so"}]}]
    body = json.dumps({"id": "resp_1", "model": "gpt", "output": output}).encode()
    found, _ = using.answer(body, using.request(CHAT, "m", at=9))
    read = ChatCompletion.model_validate_json(found)
    assert (read.choices[0].message.content, read.created) == ("so", 9)
    back = responses_on_chat()
    choice = {"index": 0, "message": {"content": "so"}, "finish_reason": "length"}
    found, counted = back.answer(
        json.dumps({"id": "1", "choices": [choice], "usage": USAGE}).encode(), back.request(RESPONSES, "m")
    )
    assert (Response.model_validate_json(found).output_text, counted.input) == ("so", 40)
    assert json.loads(found)["status"] == "incomplete"


@pytest.mark.parametrize("piece", [b"", b"data: [1]\n\n", b'data: {"error": {"message": "no"}}\n\n'])
@pytest.mark.parametrize("using", [responses_on_chat(), chat_on_responses()], ids=["responses", "chat"])
def test_a_stream_that_is_cut_or_fails_ends_with_one_error(using: Codec, piece: bytes) -> None:
    for way in ("end", "fail"):
        stream = using.stream(using.request(RESPONSES if using.upstream == "openai" else CHAT, "m"), "r")
        out = stream.feed(piece) + (stream.end() if way == "end" else stream.fail("cut"))
        assert out.count(b"error") >= 1
        assert out.count(b"\n\n") == 1
        assert (stream.is_complete, stream.error is None) == (False, False)
        assert stream.end() == stream.fail("again") == stream.feed(DONE) == b""


def on_gemini(client: WireFormat) -> Codec:
    found = codec(client, "gemini", Quirks(**THIRD), domain=DOMAIN)
    assert found is not None
    return found


GEMINI = [
    gemini_event({"text": "hm", "thought": True}),
    gemini_event({"text": "so — ☃"}),
    gemini_event({"functionCall": {"name": "look", "args": {"at": "ß"}, "id": "f1"}, "thoughtSignature": "c2ln"}),
    gemini_event(finish="STOP", usageMetadata={"promptTokenCount": 9, "candidatesTokenCount": 2}),
]


@pytest.mark.parametrize("client", ["openai", "openai-responses"])
def test_a_gemini_stream_for_clients_of_openais_formats_however_it_is_cut(client: WireFormat) -> None:
    using = on_gemini(client)
    whole = b"".join(GEMINI)

    def out(*pieces: bytes) -> bytes:
        stream = using.stream(using.request(CHAT if client == "openai" else RESPONSES, "m"), "r")
        return b"".join(map(stream.feed, pieces)) + stream.end()

    assert out(*(whole[at : at + 1] for at in range(len(whole)))) == out(*GEMINI)
    assert b'"look"' in out(whole)
    assert all(b"error" in out(whole[:end]) for end in range(0, len(whole) - 4, 9))


def test_signatures_of_gemini_go_back_through_a_client_of_responses_and_are_lost_in_one_of_chat() -> None:
    """A Chat message has no field for a signature: the vendor's placeholder takes its place."""
    using = on_gemini("openai-responses")
    stream = using.stream(using.request(RESPONSES, "m"), "r")
    output = events(b"".join(map(stream.feed, GEMINI)))[-1]["response"]["output"]
    call = next(item for item in output if item["type"] == "function_call")
    result = {"type": "function_call_output", "call_id": call["call_id"], "output": "ok"}
    found, _ = sent(responses_ask({"role": "user", "content": "a"}, *output, result), using)
    parts = found["contents"][1]["parts"]
    assert parts[-1] == {"functionCall": {"name": "look", "args": {"at": "ß"}, "id": "f1"}, "thoughtSignature": "c2ln"}
    assert found["contents"][2]["parts"][0]["functionResponse"]["id"] == "f1"
    chat, _ = sent(CHAT, on_gemini("openai"))
    assert chat["contents"][1]["parts"][1]["thoughtSignature"] == "skip_thought_signature_validator"


@pytest.mark.parametrize(
    ("effort", "thinking"),
    [("none", {"thinkingLevel": "LOW"}), ("high", {"includeThoughts": True, "thinkingLevel": "HIGH"}), (None, None)],
)
def test_an_effort_of_none_is_sent_to_models_that_think_by_default(
    effort: str | None, thinking: dict[str, Any] | None
) -> None:
    for client, body in (
        ("openai", chat_ask(reasoning_effort=effort)),
        ("openai-responses", responses_ask(reasoning={"effort": effort})),
    ):
        found, _ = sent(body, on_gemini(client))  # type: ignore[arg-type]
        assert found["generationConfig"].get("thinkingConfig") == thinking


def test_an_error_keeps_its_kind() -> None:
    for using in (responses_on_chat(), chat_on_responses()):
        for status, back, code in ((429, 429, "rate_limit_exceeded"), (503, 503, "server_is_overloaded")):
            found, body = using.error(status, b'{"error": {"message": "why"}}', "r")
            assert (found, json.loads(body)["error"]["message"], json.loads(body)["error"]["code"]) == (
                back,
                "why",
                code,
            )


REASONED: dict[WireFormat, dict[str, Any]] = {
    "anthropic": {
        "id": "msg_1",
        "content": [],
        "stop_reason": "end_turn",
        "usage": {"input_tokens": 5, "output_tokens": 20, "output_tokens_details": {"thinking_tokens": 15}},
    },
    "openai": {
        "choices": [{"message": {"content": "so"}, "finish_reason": "stop"}],
        "usage": {
            "prompt_tokens": 5,
            "completion_tokens": 20,
            "completion_tokens_details": {"reasoning_tokens": 15},
        },
    },
    "openai-responses": {
        "status": "completed",
        "output": [],
        "usage": {"input_tokens": 5, "output_tokens": 20, "output_tokens_details": {"reasoning_tokens": 15}},
    },
    "gemini": {
        "candidates": [{"content": {"parts": [{"text": "so"}]}, "finishReason": "STOP"}],
        "usageMetadata": {"promptTokenCount": 5, "candidatesTokenCount": 5, "thoughtsTokenCount": 15},
    },
}
REQUEST_OF: dict[WireFormat, bytes] = {
    "anthropic": ask(),
    "openai": CHAT,
    "openai-responses": RESPONSES,
    "gemini": gemini_ask(),
}


@pytest.mark.parametrize(("client", "upstream"), list(itertools.permutations(REASONED, 2)))
def test_the_tokens_of_reasoning_are_a_part_of_the_output_in_each_format(
    client: WireFormat, upstream: WireFormat
) -> None:
    using = codec(client, upstream, Quirks(), domain=DOMAIN)
    assert using is not None
    found, counted = using.answer(json.dumps(REASONED[upstream]).encode(), using.request(REQUEST_OF[client], "m"))
    assert (counted.output, counted.thinking) == (20, 15)
    field = "usageMetadata" if client == "gemini" else "usage"
    assert json.loads(found)[field].items() >= REASONED[client][field].items()
