"""Requests at an upstream where a cloud hosts the API: Claude on Vertex AI, and Azure OpenAI."""

import json
from collections.abc import AsyncIterator
from typing import Any

import pytest

from gateway.rig import Gate, Origin, Reply, Source, answering, error_of, json_answer, running_gate
from tokenferry.credentials import ApiKey
from tokenferry.providers import Provider
from tokenferry.routing import Router
from tokenferry.secret import Secret
from tokenferry.settings import RouterSettings
from tokenferry.stores import Account
from wire.rig import DONE, USAGE, chunk, message

pytestmark = pytest.mark.anyio

PROJECT = "/v1/projects/p/locations/l"
MODELS = f"{PROJECT}/publishers/anthropic/models"
BODY = b'{ "stream" : false, "model":"vertex/claude-opus-4-6" ,"max_tokens":9,'
BODY += b'"messages":[{"role":"user","content":"h\\u00e9"}]}'
MESSAGE = b'{"id":"msg_1","type":"message","role":"assistant","model":"c","content":[{"type":"text","text":"so"}],'
MESSAGE += b'"stop_reason":"end_turn","stop_sequence":null,"usage":{"input_tokens":1,"output_tokens":2}}'
BEGUN: dict[str, Any] = {
    "id": "m",
    "type": "message",
    "role": "assistant",
    "model": "c",
    "content": [],
    "stop_reason": None,
}
STREAM = b"".join(
    b"event: %b\ndata: %b\n\n" % (str(event["type"]).encode(), json.dumps(event).encode())
    for event in (
        {"type": "message_start", "message": BEGUN | {"usage": {"input_tokens": 3, "output_tokens": 1}}},
        {"type": "content_block_start", "index": 0, "content_block": {"type": "text", "text": ""}},
        {"type": "content_block_delta", "index": 0, "delta": {"type": "text_delta", "text": "so"}},
        {"type": "content_block_stop", "index": 0},
        {"type": "message_delta", "delta": {"stop_reason": "end_turn"}, "usage": {"output_tokens": 7}},
        {"type": "message_stop"},
    )
)
BETA = [(b"anthropic-version", b"2023-06-01"), (b"anthropic-beta", b"context-1m-2025-08-07")]


@pytest.fixture
async def gate(origin: Origin) -> AsyncIterator[Gate]:
    vertex = Provider("vertex", "vertex-claude", f"{origin.url}{PROJECT}", wire_format="vertex-anthropic")
    azure = Provider("azure", "azure", f"{origin.url}/openai/v1", wire_format="openai", key_header="api-key")
    older = Provider(
        "older", "azure", f"{origin.url}/openai", wire_format="openai", key_header="api-key", api_version="2024-10-21"
    )
    answers = Provider(
        "answers", "azure", f"{origin.url}/openai/v1", wire_format="openai-responses", key_header="api-key"
    )
    source = Source([vertex, azure, older, answers])
    for one in source.providers.values():
        source.known.append(Account(one.name, one.name, "api-key"))
        header: Any = "authorization" if one is vertex else "api-key"
        source.results[one.name] = [ApiKey(Secret("the-token-or-key"), header=header)]
    source.default_provider = "vertex"
    async with running_gate(source, router=Router(RouterSettings(), (), source.providers)) as gate:
        yield gate


async def post(gate: Gate, path: bytes, body: bytes, headers: Any = ()) -> Reply:
    return await gate.call(path, list(headers), body)


# -- Claude on Vertex AI


async def test_a_message_passes_but_for_the_model_and_the_version(gate: Gate, origin: Origin) -> None:
    origin.scripts = [json_answer(MESSAGE)]
    reply = await post(gate, b"/v1/messages?beta=true", BODY, BETA)
    assert (reply.status, reply.body) == (200, MESSAGE)
    seen = origin.seen[0]
    assert seen.target.decode() == f"{MODELS}/claude-opus-4-6:rawPredict"
    assert seen.body == BODY.replace(b'"model":"vertex/claude-opus-4-6"', b'"anthropic_version":"vertex-2023-10-16"')
    assert seen.all(b"authorization") == [b"Bearer the-token-or-key"]
    assert seen.all(b"anthropic-beta") == [b"context-1m-2025-08-07"]
    record = await gate.records.last()
    assert (record.usage.input, record.usage.output, record.translated) == (1, 2, None)


async def test_a_stream_is_asked_for_by_its_own_call_and_passes_byte_for_byte(gate: Gate, origin: Origin) -> None:
    origin.scripts = [answering(b"HTTP/1.1 200 X\r\ncontent-type: text/event-stream\r\n\r\n" + STREAM)]
    reply = await post(gate, b"/v1/messages", BODY.replace(b"false", b"true"), BETA)
    assert (reply.status, reply.body) == (200, STREAM)
    assert origin.seen[0].target.decode() == f"{MODELS}/claude-opus-4-6:streamRawPredict"
    record = await gate.records.last()
    assert (record.usage.input, record.usage.output, record.error) == (3, 7, None)


async def test_tokens_are_counted_there(gate: Gate, origin: Origin) -> None:
    origin.scripts = [json_answer(b'{"input_tokens":11}')]
    reply = await post(gate, b"/v1/messages/count_tokens", BODY, BETA)
    assert reply.body == b'{"input_tokens":11}'
    assert origin.seen[0].target.decode() == f"{MODELS}/count-tokens:rawPredict"
    told = json.loads(origin.seen[0].body)
    assert (told["model"], told["anthropic_version"]) == ("claude-opus-4-6", "vertex-2023-10-16")


@pytest.mark.parametrize(
    ("status", "name", "kind"),
    [
        (400, "INVALID_ARGUMENT", "invalid_request_error"),
        (403, "PERMISSION_DENIED", "permission_error"),
        (404, "NOT_FOUND", "not_found_error"),
        (429, "RESOURCE_EXHAUSTED", "rate_limit_error"),
    ],
)
@pytest.mark.parametrize("is_list", [True, False])  # streams have an array around it
async def test_an_error_of_googles_is_given_in_the_format_of_the_messages_api(
    gate: Gate, origin: Origin, *, status: int, name: str, kind: str, is_list: bool
) -> None:
    error = {"error": {"code": status, "message": "why it is so", "status": name}}
    content = json.dumps([error] if is_list else error).encode()
    origin.scripts = [json_answer(content, status=status, headers=[b"x-own: 1"])]
    reply = await post(gate, b"/v1/messages", BODY, BETA)
    told = error_of(reply.body)
    assert (reply.status, told["type"], told["message"]) == (status, kind, "why it is so")
    assert reply.all(b"x-own") == [b"1"]


async def test_an_error_of_claudes_own_passes_as_it_came(gate: Gate, origin: Origin) -> None:
    own = b'{ "type":"error","error":{"type":"invalid_request_error","message":"max_tokens: must be positive"}}'
    origin.scripts = [json_answer(own, status=400)]
    assert (await post(gate, b"/v1/messages", BODY, BETA)).body == own


async def test_what_vertex_ai_does_not_have_is_refused_before_it_is_asked(gate: Gate, origin: Origin) -> None:
    reply = await gate.call(b"/v1/models", BETA, method=b"GET")
    assert reply.status == 400
    assert "Vertex AI has no counterpart of /v1/models" in error_of(reply.body)["message"]
    assert origin.seen == []


async def test_a_client_of_openais_api_is_served_there_too(gate: Gate, origin: Origin) -> None:
    origin.scripts = [json_answer(MESSAGE)]
    body = {"model": "vertex/claude-opus-4-6", "messages": [{"role": "user", "content": "hello"}]}
    reply = await post(gate, b"/v1/chat/completions", json.dumps(body).encode())
    assert (reply.status, json.loads(reply.body)["choices"][0]["message"]["content"]) == (200, "so")
    seen = origin.seen[0]
    assert seen.target.decode() == f"{MODELS}/claude-opus-4-6:rawPredict"
    told = json.loads(seen.body)
    assert (told.get("model"), told["anthropic_version"]) == (None, "vertex-2023-10-16")
    assert (await gate.records.last()).translated == "openai-to-anthropic"


# -- Azure OpenAI

CHAT = {"model": "azure/gpt", "messages": [{"role": "user", "content": "hello"}]}
COMPLETION = {
    "id": "chatcmpl-1",
    "object": "chat.completion",
    "model": "gpt",
    "choices": [{"index": 0, "message": {"role": "assistant", "content": "so"}, "finish_reason": "stop"}],
    "usage": USAGE,
}


@pytest.mark.parametrize(
    ("provider", "target"),
    [
        ("azure", b"/openai/v1/chat/completions"),
        ("older", b"/openai/deployments/gpt/chat/completions?api-version=2024-10-21"),
    ],
)
async def test_azure_takes_its_key_in_api_key_at_both_of_its_addresses(
    gate: Gate, origin: Origin, provider: str, target: bytes
) -> None:
    origin.scripts = [json_answer(json.dumps(COMPLETION).encode())]
    body = json.dumps(CHAT | {"model": f"{provider}/gpt"}).encode()
    reply = await post(gate, b"/v1/chat/completions", body, [(b"api-key", b"of-the-client")])
    assert reply.status == 200, reply.body
    seen = origin.seen[0]
    assert seen.target == target
    assert seen.all(b"api-key") == [b"the-token-or-key"]
    assert seen.all(b"authorization") == []
    assert json.loads(seen.body)["model"] == "gpt"


async def test_a_message_is_translated_to_a_deployment(gate: Gate, origin: Origin) -> None:
    told = [
        chunk(choices=[], prompt_filter_results=[{"prompt_index": 0}]),
        chunk({"role": "assistant", "content": "so"}),
    ]
    told += [chunk(finish="stop"), chunk(usage=USAGE, choices=[]), DONE]
    origin.scripts = [answering(b"HTTP/1.1 200 X\r\ncontent-type: text/event-stream\r\n\r\n" + b"".join(told))]
    body = {"model": "older/gpt", "max_tokens": 9, "stream": True, "messages": [{"role": "user", "content": "hello"}]}
    reply = await post(gate, b"/v1/messages", json.dumps(body).encode(), BETA)
    assert message(reply.body)["content"] == [{"type": "text", "text": "so"}]
    assert origin.seen[0].target == b"/openai/deployments/gpt/chat/completions?api-version=2024-10-21"


async def test_a_filtered_prompt_is_the_requests_fault(gate: Gate, origin: Origin) -> None:
    error = {"code": "content_filter", "message": "The response was filtered", "status": 400, "innererror": {}}
    origin.scripts = [json_answer(json.dumps({"error": error}).encode(), status=400)]
    body = json.dumps(CHAT).encode()
    assert (await post(gate, b"/v1/chat/completions", body)).status == 400
    origin.scripts = [json_answer(json.dumps(COMPLETION).encode())]
    assert (await post(gate, b"/v1/chat/completions", body)).status == 200  # no account pays for it


async def test_responses_are_asked_for_at_azure(gate: Gate, origin: Origin) -> None:
    origin.scripts = [json_answer(b'{"id":"resp_1","object":"response","status":"completed","output":[]}')]
    reply = await post(gate, b"/v1/responses", json.dumps({"model": "answers/gpt", "input": "hello"}).encode())
    assert reply.status == 200
    assert (origin.seen[0].target, origin.seen[0].all(b"api-key")) == (b"/openai/v1/responses", [b"the-token-or-key"])


@pytest.mark.parametrize("name", [b"older", b"vertex"])
@pytest.mark.parametrize("path", [b"/v1/messages", b"/v1/chat/completions"])
async def test_a_models_name_that_leads_elsewhere_is_the_clients_fault(
    gate: Gate, origin: Origin, name: bytes, path: bytes
) -> None:
    body = b'{"model":"%b/..","max_tokens":9,"messages":[{"role":"user","content":"h"}]}' % name
    reply = await post(gate, path, body)
    error = json.loads(reply.body)["error"]
    assert (reply.status, error["type"]) == (400, "invalid_request_error")
    assert "part of a path" in error["message"]
    assert origin.seen == []
