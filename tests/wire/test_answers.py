"""Whole answers and errors, in both directions."""

import json
from typing import Any

import pytest
from anthropic.types import Message
from openai.types.chat import ChatCompletion
from openai.types.responses import Response

from tokenferry.errors import UnreadableAnswer
from tokenferry.wire import Quirks, WireFormat, chat_error_event, codec, openai_envelope
from wire.rig import (
    DONE,
    USAGE,
    Built,
    ask,
    chat_ask,
    chunk,
    events,
    from_gemini,
    from_responses,
    gemini_ask,
    responses_ask,
    to_chat,
    to_gemini,
    to_messages,
    to_responses,
    translated,
)

CALL = {"id": "call_1", "type": "function", "function": {"name": "look", "arguments": '{"at": "x"}'}}


def completion(message: dict[str, Any], finish: str = "stop", **fields: Any) -> bytes:
    choice = {"index": 0, "message": {"role": "assistant", **message}, "finish_reason": finish}
    return json.dumps({"id": "chatcmpl-1", "model": "gpt", "choices": [choice], "usage": USAGE, **fields}).encode()


def answered(body: bytes, **quirks: Any) -> dict[str, Any]:
    using = to_chat(**quirks)
    found, counted = using.answer(body, using.request(ask(), "m"))
    document: dict[str, Any] = json.loads(found)
    assert (counted.input, counted.output, counted.cache_read) == (40, 20, 60)
    Message.model_validate(document, strict=True)
    return document


def test_a_chat_answer_as_the_sdk_of_the_messages_api_reads_it() -> None:
    document = answered(completion({"content": "so", "reasoning_content": "hm", "tool_calls": [CALL]}))
    assert [block["type"] for block in document["content"]] == ["thinking", "text", "tool_use"]
    assert document["content"][2] == {"type": "tool_use", "id": "call_1", "name": "look", "input": {"at": "x"}}
    assert document["stop_reason"] == "tool_use"
    assert document["usage"]["input_tokens"] == 40


def test_a_think_tag_and_a_refusal() -> None:
    document = answered(completion({"content": "<think>hm</think>\nso"}), think_tag=True)
    assert [block.get("thinking") or block.get("text") for block in document["content"]] == ["hm", "so"]
    document = answered(completion({"content": None, "refusal": "no"}))
    assert (document["content"], document["stop_reason"]) == ([{"type": "text", "text": "no"}], "refusal")


def test_a_think_tag_stays_in_the_text_of_a_model_that_has_none() -> None:
    said = "<think>hm</think>\nso"
    assert answered(completion({"content": said}))["content"] == [{"type": "text", "text": said}]


@pytest.mark.parametrize("arguments", ['{"at": "x"}', {"at": "x"}, "", None, {}])
def test_arguments_are_a_text_an_object_or_none(arguments: Any) -> None:
    """Some servers give the object itself."""
    function = {"name": "look", "arguments": arguments}
    call = {"id": "call_1", "type": "function", "function": function}
    block = answered(completion({"tool_calls": [call]}))["content"][0]
    assert block["input"] == ({"at": "x"} if arguments else {})
    streamed = translated(chunk({"tool_calls": [{"index": 0, **call}]}), chunk({}, "tool_calls", usage=USAGE), DONE)
    built = Built()
    for event in events(streamed):
        built.take(event)
    assert built.message["content"][0]["input"] == block["input"]


ODD = {"prompt_tokens": 5.5, "input_tokens": "5", "promptTokenCount": -1, "prompt_tokens_details": []}


@pytest.mark.parametrize("usage", [[], {}, "5", 5, ODD])
def test_an_answer_is_not_refused_for_an_odd_usage(usage: Any) -> None:
    answers: dict[WireFormat, dict[str, Any]] = {
        "openai": {"choices": [{"message": {"content": "so"}, "finish_reason": "stop"}], "usage": usage},
        "openai-responses": {"status": "completed", "output": [], "usage": usage},
        "gemini": {
            "candidates": [{"content": {"parts": [{"text": "so"}]}, "finishReason": "STOP"}],
            "usageMetadata": usage,
        },
    }
    for upstream, answer in answers.items():
        using = codec("anthropic", upstream, Quirks(), domain="d")
        assert using is not None
        found, counted = using.answer(json.dumps(answer).encode(), using.request(ask(), "m"))
        assert (counted.input, json.loads(found)["stop_reason"]) == (None, "end_turn")


def test_older_forms_of_calls_and_thoughts_and_a_call_that_was_cut() -> None:
    old = {"content": [{"type": "thinking", "thinking": "hm"}], "function_call": CALL["function"]}
    thought, call = answered(completion(old))["content"]
    assert (thought["thinking"], call["name"], call["input"]) == ("hm", "look", {"at": "x"})
    for finish, reason in (("length", "max_tokens"), ("content_filter", "refusal")):
        document = answered(completion(bad_call('{"at'), finish))
        assert (document["content"][0]["input"], document["stop_reason"]) == ({}, reason)


def bad_call(arguments: str) -> dict[str, Any]:
    return {"tool_calls": [{**CALL, "function": {"name": "look", "arguments": arguments}}]}


@pytest.mark.parametrize(
    ("body", "word"),
    [
        (b"", "truncated"),
        (b"[]", "object"),
        (b"{}", "no message"),
        (b'{"choices": []}', "no message"),
        (b'{"error": {"message": "no more"}}', "no more"),
        (b'{"base_resp": {"status_code": 1008, "status_msg": "insufficient balance"}}', "insufficient balance"),
        (completion(bad_call("{")), "'look'"),
        (completion(bad_call("[]")), "'look'"),
        (completion({"tool_calls": [{"id": "x", "function": {}}]}), "name"),
        (completion({}, "error"), "error"),
        (completion({"content": 1}), "content"),
        (b'{"error": ' + b"[" * 100_000, "recursion"),
    ],
    ids=range(12),
)
def test_what_is_no_answer_is_not_passed_on(body: bytes, word: str) -> None:
    using = to_chat()
    with pytest.raises(UnreadableAnswer, match=word):
        using.answer(body, using.request(ask(), "m"))


def test_a_messages_answer_as_the_sdk_of_chat_completions_reads_it() -> None:
    using = to_messages()
    content = [
        {"type": "thinking", "thinking": "hm", "signature": "s"},
        {"type": "text", "text": "so "},
        {"type": "text", "text": "it is", "citations": [{"type": "x"}]},
        {"type": "tool_use", "id": "toolu_1", "name": "look", "input": {"at": "x"}},
        {"type": "web_search_tool_result", "content": []},
    ]
    usage = {"input_tokens": 40, "cache_read_input_tokens": 50, "cache_creation_input_tokens": 10, "output_tokens": 20}
    body = json.dumps(
        {"id": "msg_1", "type": "message", "model": "c", "content": content, "stop_reason": "tool_use", "usage": usage}
    )
    found, counted = using.answer(body.encode(), using.request(chat_ask(), "m", at=9))
    read = ChatCompletion.model_validate_json(found, strict=True)
    said = read.choices[0].message
    assert (said.content, said.tool_calls and said.tool_calls[0].id) == ("so it is", "toolu_1")
    assert read.choices[0].finish_reason == "tool_calls"
    assert read.usage is not None
    assert (read.usage.prompt_tokens, read.usage.completion_tokens, read.created) == (100, 20, 9)
    assert (counted.input, counted.cache_read, counted.cache_creation) == (40, 50, 10)
    with pytest.raises(UnreadableAnswer):
        using.answer(b'{"content": 1}', using.request(chat_ask(), "m"))


def test_a_messages_answer_without_counts_has_a_usage_of_nothing() -> None:
    body = json.dumps({"id": "msg_1", "content": [{"type": "text", "text": "so"}]}).encode()
    using = to_messages()
    chat = ChatCompletion.model_validate_json(using.answer(body, using.request(chat_ask(), "m"))[0]).usage
    using = from_gemini()
    gemini = json.loads(using.answer(body, using.request(gemini_ask(), "m"))[0])["usageMetadata"]
    using = from_responses()
    usage = Response.model_validate_json(using.answer(body, using.request(responses_ask(store=False), "m"))[0]).usage
    assert chat is not None
    assert usage is not None
    assert (chat.prompt_tokens, chat.completion_tokens, chat.total_tokens) == (0, 0, 0)
    assert (usage.input_tokens, usage.output_tokens, usage.total_tokens) == (0, 0, 0)
    assert set(gemini.values()) == {0}


def test_a_messages_answer_as_the_sdk_of_responses_reads_it() -> None:
    using = from_responses()
    tools = [{"type": "custom", "name": "apply_patch"}, {"type": "function", "name": "look"}]
    content = [
        {"type": "thinking", "thinking": "hm", "signature": "s"},
        {"type": "redacted_thinking", "data": "d"},
        {"type": "text", "text": "so "},
        {"type": "text", "text": "it is", "citations": [{"type": "x"}]},
        {"type": "tool_use", "id": "toolu_1", "name": "look", "input": {"at": "x"}},
        {"type": "tool_use", "id": "toolu_2", "name": "apply_patch", "input": {"input": "*** Begin"}},
        {"type": "web_search_tool_result", "content": []},
    ]
    usage = {"input_tokens": 40, "cache_read_input_tokens": 50, "cache_creation_input_tokens": 10, "output_tokens": 20}
    document = {"id": "msg_1", "model": "c", "content": content, "stop_reason": "tool_use", "usage": usage}
    asked = using.request(responses_ask(tools=tools), "m", at=9)
    found, counted = using.answer(json.dumps(document).encode(), asked)
    read = Response.model_validate_json(found)
    assert [item.type for item in read.output] == [
        "reasoning",
        "reasoning",
        "message",
        "function_call",
        "custom_tool_call",
    ]
    assert (read.output_text, read.status, read.id, read.created_at) == ("so it is", "completed", "resp_1", 9)
    assert json.loads(json.loads(found)["output"][3]["arguments"]) == {"at": "x"}
    assert json.loads(found)["output"][4]["input"] == "*** Begin"
    assert read.usage is not None
    assert (read.usage.input_tokens, read.usage.total_tokens) == (100, 120)
    assert (counted.input, counted.cache_read, counted.cache_creation) == (40, 50, 10)
    cut, _ = using.answer(json.dumps({**document, "stop_reason": "max_tokens"}).encode(), asked)
    assert json.loads(cut)["incomplete_details"] == {"reason": "max_output_tokens"}
    with pytest.raises(UnreadableAnswer):
        using.answer(b'{"content": 1}', asked)


RESPONSE: dict[str, Any] = {
    "id": "resp_1",
    "model": "gpt",
    "status": "completed",
    "error": None,
    "output": [
        {"type": "reasoning", "id": "rs_1", "summary": [{"text": "hm"}, {"text": "so"}], "encrypted_content": "gAAAA"},
        {"type": "reasoning", "id": "rs_2", "summary": []},
        {"type": "web_search_call", "id": "ws_1", "arguments": {}},
        {"type": "message", "content": [{"type": "output_text", "text": "it is"}]},
        {"type": "function_call", "id": "fc_1", "call_id": "call_1", "name": "look", "arguments": '{"at": "x"}'},
    ],
    "usage": {"input_tokens": 100, "output_tokens": 20, "input_tokens_details": {"cached_tokens": 60}},
}


def test_an_answer_of_responses_as_the_sdk_of_the_messages_api_reads_it() -> None:
    using = to_responses()
    found, counted = using.answer(json.dumps(RESPONSE).encode(), using.request(ask(), "m"))
    document = json.loads(found)
    Message.model_validate(document, strict=True)
    assert [block["type"] for block in document["content"]] == ["thinking", "text", "tool_use"]
    assert document["content"][0]["thinking"] == "hm\n\nso"
    assert document["content"][2] == {"type": "tool_use", "id": "call_1", "name": "look", "input": {"at": "x"}}
    assert document["stop_reason"] == "tool_use"
    assert (counted.input, counted.output, counted.cache_read) == (40, 20, 60)
    refusal = {"type": "message", "content": [{"type": "refusal", "refusal": "no"}]}
    found, _ = using.answer(json.dumps({**RESPONSE, "output": [refusal]}).encode(), using.request(ask(), "m"))
    document = json.loads(found)
    assert (document["content"], document["stop_reason"]) == ([{"type": "text", "text": "no"}], "refusal")


@pytest.mark.parametrize(
    ("answer", "word", "status"),
    [
        ({"error": {"code": 429, "status": "RESOURCE_EXHAUSTED", "message": "no more"}}, "no more", 429),
        ({"promptFeedback": {"blockReason": "SAFETY", "blockReasonMessage": "not this"}}, "not this", 400),
        ({"promptFeedback": {}}, "no candidate", None),
        ({}, "no candidate", None),
    ],
)
def test_what_is_no_answer_of_gemini_is_an_error_in_its_words(answer: Any, word: str, status: int | None) -> None:
    using = to_gemini()
    with pytest.raises(UnreadableAnswer, match=word) as caught:
        using.answer(json.dumps(answer).encode(), using.request(ask(), "m"))
    assert status in {None, caught.value.status}


@pytest.mark.parametrize(
    ("item", "fields", "reason"),
    [
        (RESPONSE["output"][3], {}, "end_turn"),
        (RESPONSE["output"][4], {}, "tool_use"),
        ({**RESPONSE["output"][4], "arguments": '{"at'}, {"status": "incomplete"}, "tool_use"),
        (
            {**RESPONSE["output"][4], "arguments": '{"at'},
            {"status": "incomplete", "incomplete_details": {"reason": "max_output_tokens"}},
            "max_tokens",
        ),
    ],
)
def test_an_answer_of_responses_ends_as_it_was_ended(item: Any, fields: dict[str, Any], reason: str) -> None:
    """A call that a limit cut has no arguments."""
    using = to_responses()
    found, _ = using.answer(json.dumps({**RESPONSE, "output": [item], **fields}).encode(), using.request(ask(), "m"))
    document = json.loads(found)
    assert document["stop_reason"] == reason
    assert document["content"][0].get("input", {}) == ({"at": "x"} if reason == "tool_use" and not fields else {})


@pytest.mark.parametrize(
    ("fields", "word"),
    [
        ({"output": None}, "no output"),
        ({"error": {"message": "no more"}}, "no more"),
        ({"status": "failed"}, "failed"),
        ({"status": "cancelled"}, "failed"),
        ({"output": [{"type": "function_call", "arguments": "{}"}]}, "name"),
        ({"output": [{"type": "function_call", "name": "look", "arguments": "["}]}, "'look'"),
        ({"output": [{"type": "function_call", "name": "look", "arguments": [1]}]}, "'look'"),
        ({"output": [{"type": "message", "content": "x"}]}, "parts"),
        ({"output": 1}, "output"),
    ],
)
def test_what_is_no_answer_of_responses_is_not_passed_on(fields: dict[str, Any], word: str) -> None:
    using = to_responses()
    with pytest.raises(UnreadableAnswer, match=word):
        using.answer(json.dumps({**RESPONSE, **fields}).encode(), using.request(ask(), "m"))


ENVELOPES = [
    b'{"error": {"message": "why", "type": "x"}}',
    b'[{"error": {"message": "why", "code": 429}}]',
    b'{"error": "why"}',
    b'{"object": "error", "message": "why", "type": "x", "code": 1}',
    b'{"object": "error", "message": "why"}',
    b'{"message": "why", "code": 429}',
    b'{"detail": "why"}',
    b"why",
]


@pytest.mark.parametrize("body", ENVELOPES)
def test_the_upstreams_words_come_in_the_clients_envelope(body: bytes) -> None:
    status, found = to_chat().error(429, body, "req_1")
    assert (status, json.loads(found)) == (
        429,
        {"type": "error", "error": {"type": "rate_limit_error", "message": "why"}, "request_id": "req_1"},
    )
    status, found = to_messages().error(429, body, "req_1")
    error = json.loads(found)["error"]
    assert (status, error["message"], error["code"]) == (429, "why", "rate_limit_exceeded")
    assert from_responses().error(429, body, "req_1") == (status, found)
    assert to_responses().error(429, body, "req_1") == to_chat().error(429, body, "req_1")


@pytest.mark.parametrize(
    ("status", "to_anthropic", "to_openai"),
    [
        (400, (400, "invalid_request_error"), (400, None)),
        (422, (400, "invalid_request_error"), (400, None)),
        (418, (400, "invalid_request_error"), (400, None)),
        (401, (401, "authentication_error"), (401, "invalid_api_key")),
        (402, (402, "billing_error"), (429, "insufficient_quota")),
        (403, (403, "permission_error"), (403, "permission_denied")),
        (404, (404, "not_found_error"), (404, "model_not_found")),
        (413, (413, "request_too_large"), (413, "request_too_large")),
        (408, (504, "timeout_error"), (504, "timeout")),
        (498, (529, "overloaded_error"), (503, "server_is_overloaded")),
        (500, (500, "api_error"), (500, None)),
        (502, (500, "api_error"), (500, None)),
        (503, (529, "overloaded_error"), (503, "server_is_overloaded")),
        (599, (500, "api_error"), (500, None)),
    ],
)
def test_statuses(status: int, to_anthropic: tuple[int, str], to_openai: tuple[int, str | None]) -> None:
    found, body = to_chat().error(status, b"<html>", "r")
    assert (found, json.loads(body)["error"]["type"]) == to_anthropic
    found, body = to_messages().error(status, b"", "r")
    assert (found, json.loads(body)["error"]["code"]) == to_openai


def test_a_conversation_that_is_too_long_gets_the_message_that_makes_clients_shorten_it() -> None:
    body = (
        b'{"error": {"message": "This model\'s maximum context length is 8 tokens", "code": "context_length_exceeded"}}'
    )
    status, found = to_chat().error(400, body, "r")
    assert (status, json.loads(found)["error"]["message"].startswith("prompt is too long: ")) == (400, True)
    llama = b'{"error": {"code": 400, "message": "the request exceeds it", "type": "exceed_context_size_error"}}'
    assert b"prompt is too long: " in to_chat().error(400, llama, "req_1")[1]
    body = b'{"type": "error", "error": {"type": "invalid_request_error", "message": "prompt is too long: 9 > 8"}}'
    status, found = to_messages().error(400, body, "r")
    assert (status, json.loads(found)["error"]["code"]) == (400, "context_length_exceeded")


ASKED: dict[WireFormat, bytes] = {"anthropic": ask(), "openai": chat_ask(), "openai-responses": responses_ask()}


def test_every_pair_of_formats_has_a_codec_but_of_the_same_none() -> None:
    known: dict[WireFormat, str] = {
        "anthropic": "/v1/messages",
        "openai": "/chat/completions",
        "openai-responses": "/responses",
        "gemini": "/models/m:generateContent",
    }
    paths = {
        (client, upstream): found and found.request(ASKED[client], "m").path
        for client in ASKED
        for upstream in known
        for found in [codec(client, upstream, Quirks())]
    }
    assert paths == {pair: None if pair[0] == pair[1] else known[pair[1]] for pair in paths}


@pytest.mark.parametrize(
    ("kind", "expected"),
    [
        ("invalid_request_error", ("invalid_request_error", None)),
        ("authentication_error", ("invalid_request_error", "invalid_api_key")),
        ("rate_limit_error", ("rate_limit_error", "rate_limit_exceeded")),
        ("api_error", ("server_error", None)),
        ("never heard of", ("server_error", None)),
    ],
)
def test_an_error_of_our_own_in_openais_words(kind: str, expected: tuple[str, str | None]) -> None:
    error = json.loads(openai_envelope(kind, "so \u2019 it is", "req_1"))["error"]
    assert (error["type"], error["code"]) == expected
    assert error["message"] == "so \u2019 it is"
    assert chat_error_event(kind, "x", "r") == b"data: " + openai_envelope(kind, "x", "r") + b"\n\n"
