"""Clients of Responses at upstreams of all formats, and upstreams of Responses for clients of the Messages API."""

import json
from collections.abc import AsyncIterator
from typing import Any

import pytest

from gateway.proxy.test_chat_clients import MESSAGE, SPOKEN, asking, error_in, streaming
from gateway.rig import Gate, Origin, Reply, Source, api_key, json_answer, running_gate, running_origin
from tokenferry.credentials import ApiKey
from tokenferry.providers import Provider
from tokenferry.routing import Router
from tokenferry.secret import Secret
from tokenferry.settings import ModelMapping, ModelSettings, RouterSettings
from tokenferry.stores import Account
from tokenferry.wire import SEALED
from wire.rig import events, message, named
from wire.test_responses_stream_to_messages import CREATED, FAILED, TRANSCRIPT
from wire.test_stream_from_messages import TRANSCRIPT as MESSAGES_TRANSCRIPT

pytestmark = pytest.mark.anyio

PATH = b"/v1/responses"
MODELS = (
    ModelSettings("same", (ModelMapping("responses", "gpt"),)),
    ModelSettings("chat", (ModelMapping("chat", "gpt"),)),
    ModelSettings("both", (ModelMapping("responses", "gpt"), ModelMapping("native", "claude"))),
)
ANSWER = {
    "id": "resp_1",
    "object": "response",
    "model": "gpt-5",
    "status": "completed",
    "output": [{"type": "message", "content": [{"type": "output_text", "text": "so"}]}],
    "usage": {"input_tokens": 100, "input_tokens_details": {"cached_tokens": 60}, "output_tokens": 20},
}


@pytest.fixture
async def native() -> AsyncIterator[Origin]:
    async with running_origin() as other:
        other.scripts = [json_answer(MESSAGE)]
        yield other


@pytest.fixture
def source(origin: Origin, native: Origin) -> Source:
    origin.scripts = [json_answer(json.dumps(ANSWER).encode())]
    providers = [
        Provider("responses", "openai", f"{origin.url}/v1", wire_format="openai-responses"),
        Provider("chat", "openai", f"{origin.url}/v1", wire_format="openai"),
        Provider("native", "native", native.url),
    ]
    source = Source(providers, [Account("r", "responses", "api-key"), Account("r2", "responses", "api-key")])
    source.known += [Account("c", "chat", "api-key"), Account("n", "native", "api-key")]
    key = ApiKey(Secret("sk-proj-secret"), header="authorization")
    source.results = {"r": [key], "r2": [key], "c": [key], "n": [api_key()]}
    source.default_provider = "native"
    return source


@pytest.fixture
async def gate(source: Source) -> AsyncIterator[Gate]:
    async with running_gate(source, router=Router(RouterSettings(), MODELS, source.providers)) as gate:
        yield gate


async def ask(gate: Gate, model: str, items: Any = "hello", **fields: Any) -> Reply:
    body = json.dumps({"model": model, "input": items, **fields}).encode()
    return await gate.call(PATH, None, body)


async def test_at_an_upstream_of_its_format_every_byte_but_the_model_passes(gate: Gate, origin: Origin) -> None:
    body = b' {"store": true, "model" :"same","input":[] , "unheard_of":1e3}\n'
    reply = await gate.call(PATH, None, body)
    assert (reply.status, json.loads(reply.body)) == (200, ANSWER)
    seen = origin.seen[0]
    assert (seen.target, seen.body) == (b"/v1/responses", body.replace(b'"same"', b'"gpt"'))
    assert seen.all(b"authorization") == [b"Bearer sk-proj-secret"]
    record = await gate.records.last()
    assert (record.usage.input, record.usage.cache_read, record.usage.output) == (40, 60, 20)
    assert (record.translated, record.upstream_model) == (None, "gpt")


async def test_a_stream_of_its_format_passes_and_is_counted(gate: Gate, origin: Origin) -> None:
    origin.scripts = [streaming(*TRANSCRIPT)]
    reply = await ask(gate, "same", stream=True)
    assert reply.body == b"".join(TRANSCRIPT)
    record = await gate.records.last()
    assert (record.usage.input, record.usage.cache_creation, record.usage.output) == (30, 10, 20)
    assert (record.served_model, record.error, record.usage.is_estimated) == ("gpt", None, False)


@pytest.mark.parametrize("count", [5, 12, len(TRANSCRIPT) - 1])
async def test_a_stream_of_its_format_that_ends_early_ends_with_failed(gate: Gate, origin: Origin, count: int) -> None:
    """Codex waits for one of the last events, and asks again if there is none."""
    origin.scripts = [streaming(*TRANSCRIPT[:count], TRANSCRIPT[count][:-3])]
    last = events((await ask(gate, "same", stream=True)).body)[-1]
    assert (last["type"], last["response"]["status"]) == ("response.failed", "failed")
    assert last["response"]["error"]["code"] == "server_error"
    assert (await gate.records.last()).error == "truncated"


async def test_a_messages_upstream_answers_in_the_clients_format(gate: Gate, native: Origin) -> None:
    reply = await ask(gate, "unmapped", max_output_tokens=9, truncation="auto")
    document = json.loads(reply.body)
    assert (document["object"], document["output"][0]["content"][0]["text"]) == ("response", "hi")
    assert native.seen[0].target == b"/v1/messages"
    record = await gate.records.last()
    assert (record.translated, record.left_out) == ("openai-responses-to-anthropic", ("truncation",))
    assert (record.usage.input, record.usage.output, record.usage.cache_creation_1h) == (10, 2, 3)


async def test_a_messages_stream_comes_as_events_of_responses(gate: Gate, native: Origin) -> None:
    native.scripts = [streaming(*MESSAGES_TRANSCRIPT)]
    out = events((await ask(gate, "unmapped", stream=True)).body)
    assert out[-1]["type"] == "response.completed"
    assert [item["type"] for item in out[-1]["response"]["output"]][-2:] == ["function_call"] * 2
    record = await gate.records.last()
    assert (record.usage.input, record.usage.output, record.error) == (40, 20, None)


async def test_a_chat_upstream_is_asked_through_the_messages_api(gate: Gate, origin: Origin) -> None:
    origin.scripts = [streaming(*SPOKEN)]
    out = events((await ask(gate, "chat", stream=True)).body)
    assert out[-1]["response"]["output"][0]["content"][0]["text"] == "It"
    assert origin.seen[0].target == b"/v1/chat/completions"
    record = await gate.records.last()
    assert (record.translated, record.usage.input, record.usage.output) == ("openai-responses-to-openai", 40, 20)


async def test_a_responses_upstream_serves_the_messages_api(gate: Gate, origin: Origin) -> None:
    origin.scripts = [streaming(*TRANSCRIPT)]
    reply = await gate.call(b"/v1/messages", None, asking("same", max_tokens=9, stream=True))
    assert message(reply.body)["stop_reason"] == "tool_use"
    seen = origin.seen[0]
    assert (seen.target, json.loads(seen.body)["max_output_tokens"]) == (b"/v1/responses", 16)
    record = await gate.records.last()
    assert (record.translated, record.usage.cache_read) == ("anthropic-to-openai-responses", 60)


async def test_encrypted_reasoning_goes_back_to_its_account_alone(gate: Gate, origin: Origin) -> None:
    """Another account may be of another organization, whose API refuses it, and to which it must not go."""
    origin.scripts = [streaming(*TRANSCRIPT), json_answer(json.dumps(ANSWER).encode())]
    first = await gate.call(b"/v1/messages", None, asking("same", max_tokens=9, stream=True))
    content = message(first.body)["content"][:2]
    turns = [
        {"role": "user", "content": "a"},
        {"role": "assistant", "content": content},
        {"role": "user", "content": "b"},
    ]
    body = json.dumps({"model": "same", "max_tokens": 9, "messages": turns}).encode()
    await gate.call(b"/v1/messages", None, body)
    same = json.loads(origin.seen[1].body)["input"][1]
    assert (same["type"], same["encrypted_content"]) == ("reasoning", "gAAAA")
    limited = json_answer(b'{"error": {"code": "rate_limit_exceeded"}}', status=429, headers=[b"retry-after: 60"])
    origin.scripts = [limited, json_answer(json.dumps(ANSWER).encode())]
    assert (await gate.call(b"/v1/messages", None, body)).status == 200
    went = [b"gAAAA" in seen.body for seen in origin.seen[-2:]]
    assert went == [True, False]
    assert (await gate.records.last()).account == "r2"


async def test_reasoning_of_a_translated_answer_is_taken_out_where_bytes_pass(
    gate: Gate, origin: Origin, native: Origin
) -> None:
    native.scripts = [streaming(*MESSAGES_TRANSCRIPT)]
    output = events((await ask(gate, "unmapped", stream=True)).body)[-1]["response"]["output"]
    assert any(SEALED.decode() in (item.get("encrypted_content") or "") for item in output)
    theirs = {"type": "reasoning", "id": "rs_1", "summary": [], "encrypted_content": "gAAAA"}
    await ask(gate, "same", [{"role": "user", "content": "a"}, theirs, *output])
    kinds = [item.get("type") for item in json.loads(origin.seen[0].body)["input"]]
    assert kinds == [None, "reasoning", *(item["type"] for item in output if item["type"] != "reasoning")]


@pytest.mark.parametrize("is_stream", [True, False])
async def test_failover_goes_to_another_format(gate: Gate, origin: Origin, native: Origin, *, is_stream: bool) -> None:
    limited = json_answer(b'{"error": {"code": "rate_limit_exceeded"}}', status=429, headers=[b"retry-after: 60"])
    origin.scripts = [streaming(CREATED, FAILED) if is_stream else limited] * 2
    native.scripts = [streaming(*MESSAGES_TRANSCRIPT) if is_stream else json_answer(MESSAGE)]
    reply = await ask(gate, "both", stream=is_stream)
    assert (reply.status, b"no more" in reply.body) == (200, False)
    assert (await gate.records.last()).account == "n"


@pytest.mark.parametrize(
    ("fields", "word"),
    [({"previous_response_id": "resp_1"}, "previous_response_id"), ({"tools": [{"type": "web_search"}]}, "web_search")],
)
async def test_what_no_target_can_say_is_refused_with_the_field(
    gate: Gate, native: Origin, fields: dict[str, Any], word: str
) -> None:
    reply = await ask(gate, "unmapped", **fields)
    assert (reply.status, native.seen) == (400, [])
    assert word in error_in(reply)["message"]


async def test_errors_come_in_the_callers_envelope(gate: Gate, native: Origin) -> None:
    assert error_in(await gate.call(PATH, method=b"GET"))["type"] == "invalid_request_error"
    reply = await gate.call(b"/v1/responses/resp_1", method=b"GET")
    assert (reply.status, "stores no answers" in error_in(reply)["message"]) == (404, True)
    error = {"type": "error", "error": {"type": "rate_limit_error", "message": "slow down"}}
    native.scripts = [json_answer(json.dumps(error).encode(), status=429, headers=[b"retry-after: 60"])]
    reply = await ask(gate, "unmapped")
    assert (reply.status, error_in(reply)["code"]) == (429, "rate_limit_exceeded")


async def test_a_stream_that_fails_after_content_ends_with_failed(gate: Gate, native: Origin) -> None:
    error = named("error", error={"type": "overloaded_error", "message": "busy"})
    native.scripts = [streaming(*MESSAGES_TRANSCRIPT[:8], error)]
    last = events((await ask(gate, "unmapped", stream=True)).body)[-1]
    assert (last["type"], last["response"]["error"]["code"]) == ("response.failed", "server_is_overloaded")


async def test_reasoning_that_the_upstream_cant_read_is_left_out_once(gate: Gate, origin: Origin) -> None:
    thought = {"type": "reasoning", "id": "rs_1", "summary": [], "encrypted_content": "gAAA"}
    call = {"type": "function_call", "id": "fc_1", "call_id": "call_1", "name": "look", "arguments": "{}"}
    result = {"type": "function_call_output", "call_id": "call_1", "output": "x"}
    fault = {"error": {"message": "The encrypted content could not be verified.", "code": "invalid_encrypted_content"}}
    refusal = json_answer(json.dumps(fault).encode(), status=400)
    origin.scripts = [refusal, json_answer(json.dumps(ANSWER).encode())]
    reply = await ask(gate, "same", [thought, call, result])
    assert reply.status == 200
    first, second = (json.loads(seen.body)["input"] for seen in origin.seen)
    assert first == [thought, call, result]
    assert second == [{name: value for name, value in call.items() if name != "id"}, result]
    assert (await gate.records.last()).attempts == 2
    origin.scripts = [refusal]
    refused = await ask(gate, "same", [thought, call, result])
    assert (refused.status, len(origin.seen)) == (400, 4)
