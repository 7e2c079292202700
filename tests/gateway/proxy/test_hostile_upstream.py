"""An upstream of another format that answers whatever it likes: one clear error, in bounded memory and time."""

import asyncio
import json
import time
from collections.abc import AsyncIterator
from typing import Any

import pytest

from gateway.rig import Gate, Origin, Reply, Script, Seen, Source, answering, error_of, json_answer, running_gate
from tokenferry.credentials import ApiKey
from tokenferry.gateway.proxy.body import BodyBudget
from tokenferry.providers import Provider
from tokenferry.routing import Router
from tokenferry.secret import Secret
from tokenferry.settings import ModelMapping, ModelSettings, RouterSettings
from tokenferry.stores import Account
from wire.rig import DONE, USAGE, chunk, events

pytestmark = pytest.mark.anyio

STREAM = b"HTTP/1.1 200 X\r\ncontent-type: text/event-stream\r\n\r\n"
DEEP = 100_000
MIB = 1 << 20
MODELS = (ModelSettings("m", (ModelMapping("chat", "gpt"),)),)
COMPLETION = {
    "id": "1",
    "choices": [{"index": 0, "message": {"role": "assistant", "content": "so"}, "finish_reason": "stop"}],
    "usage": USAGE,
}


def source_of(origin: Origin) -> Source:
    chat = Provider("chat", "openai", f"{origin.url}/v1", wire_format="openai", key_header="authorization")
    source = Source([chat], [Account("c", "chat", "api-key")])
    source.results = {"c": [ApiKey(Secret("sk-proj-secret"), header="authorization")]}
    return source


@pytest.fixture
async def gate(origin: Origin) -> AsyncIterator[Gate]:
    source = source_of(origin)
    async with running_gate(source, router=Router(RouterSettings(), MODELS, source.providers)) as gate:
        yield gate


async def ask(gate: Gate, content: Any = "hello", **fields: Any) -> Reply:
    body = {"model": "m", "max_tokens": 100, "messages": [{"role": "user", "content": content}], **fields}
    return await gate.call(b"/v1/messages", [(b"anthropic-version", b"2023-06-01")], json.dumps(body).encode())


def endless(piece: bytes, head: bytes = STREAM) -> Script:
    """Writes the same again and again, until nobody reads it any more."""

    async def script(seen: Seen, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        writer.write(head)
        try:
            while True:
                writer.write(piece)
                await writer.drain()
        except ConnectionError:
            pass

    return script


@pytest.mark.parametrize(
    "script",
    [
        answering(STREAM + b"data: " + b"[" * DEEP + b"\n\n"),
        answering(STREAM + b"data: \x00\x00\x00\n\n"),
        answering(STREAM + b'data: {"choices":[{"delta":{"content":"a\x00b"}}]}\n\n'),
        answering(STREAM + b"\x00" * 1000),
        answering(STREAM + b'data: {"choices":{"0":[]}}\n\n'),
        answering(STREAM + b'data: {"choices":[{"delta":{"tool_calls":[{"index":-1e99}]}}]}\n\n'),
        answering(STREAM + b'data: {"choices":[{"delta":{"content":[[[]]]}}]}\n\n'),
        answering(STREAM + b"data: null\n\n" + DONE),
        answering(STREAM + DONE),
        answering(STREAM),
        endless(b"data: " + b"x" * MIB),
        endless(b"x" * MIB),
        endless(
            b'data: {"choices":[{"delta":{"tool_calls":[{"id":"a","function":{"arguments":"%s"}}]}}]}\n\n'
            % (b"x" * MIB)
        ),
        json_answer(b"[" * DEEP),
        json_answer(b'{"choices": [' + b"[" * DEEP),
        json_answer(b"\x00"),
        json_answer(b'{"choices":[{"message":{"content":"a\x00b"}}]}'),
        json_answer(b'{"choices":[{"message":{"tool_calls":[{"function":{"name":"x","arguments":"[1]"}}]}}]}'),
        json_answer(b'{"choices":[{"message":{"tool_calls":[{"function":{"arguments":"{}"}}]}}]}'),
        json_answer(b'{"base_resp":{"status_code":[1002]}}'),
        json_answer(b'{"error":[[]]}'),
        json_answer(b"", status=200),
        endless(b" " * MIB, b"HTTP/1.1 200 X\r\ncontent-type: application/json\r\n\r\n"),
        endless(b"<p>" * MIB, b"HTTP/1.1 500 X\r\ncontent-type: text/html\r\n\r\n"),
    ],
)
@pytest.mark.parametrize("stream", [True, False])
async def test_a_client_gets_one_error_and_nothing_is_left(
    gate: Gate, origin: Origin, script: Script, *, stream: bool
) -> None:
    origin.scripts = [script]
    before = time.process_time()
    async with asyncio.timeout(30):
        reply = await ask(gate, stream=stream)
    assert time.process_time() - before < 5
    if reply.status == 200:
        told = events(reply.body)
        assert [event["type"] for event in told].count("error") == 1
        assert told[-1]["type"] == "error"
        message = told[-1]["error"]["message"]
    else:
        assert reply.status >= 400
        message = error_of(reply.body)["message"]
    assert 0 < len(message) < 2500
    assert "\x00" not in message
    assert (await gate.records.last()).error is not None or reply.status >= 500
    assert (gate.gateway.in_flight, gate.gateway.streams, gate.gateway.budget.held) == (0, 0, 0)


async def test_odd_values_beside_an_answer_do_no_harm(gate: Gate, origin: Origin) -> None:
    odd = {**COMPLETION, "created": "yesterday", "system_fingerprint": [1], "x": {"y": None}, "object": 5}
    origin.scripts = [json_answer(json.dumps(odd).encode())]
    reply = await ask(gate)
    assert json.loads(reply.body)["content"] == [{"type": "text", "text": "so"}]


async def test_a_body_of_the_largest_size_is_translated_or_refused_in_a_sentence(gate: Gate, origin: Origin) -> None:
    origin.scripts = [json_answer(json.dumps(COMPLETION).encode())]
    before = time.process_time()
    large = await ask(gate, "word " * (6 * MIB))
    assert large.status == 200
    many = await ask(gate, [{"type": "text", "text": "x"}] * 300_000)
    assert "more than 200,000 objects" in error_of(many.body)["message"]
    deep = b'{"model":"m","max_tokens":1,"messages":[{"role":"user","content":%b%b}]}' % (b"[" * DEEP, b"]" * DEEP)
    nested = await gate.call(b"/v1/messages", [], deep)
    assert nested.status == 400
    assert "nested too deep" in error_of(nested.body)["message"]
    assert time.process_time() - before < 10
    assert len(origin.seen) == 1


async def test_a_tool_of_two_hundred_characters_is_called_by_its_own_name(gate: Gate, origin: Origin) -> None:
    name = "mcp__" + "long" * 48 + "tail"
    tools = [
        {"name": name, "input_schema": {"type": "object"}},
        {"name": name + "2", "input_schema": {"type": "object"}},
    ]

    async def script(seen: Seen, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        sent = [tool["function"]["name"] for tool in json.loads(seen.body)["tools"]]
        assert len({*sent}) == 2
        assert max(map(len, sent)) <= 64
        call = {"index": 0, "id": "call_1", "function": {"name": sent[1], "arguments": "{}"}}
        writer.write(STREAM + chunk({"tool_calls": [call]}) + chunk(finish="tool_calls") + DONE)
        await writer.drain()

    origin.scripts = [script]
    reply = await ask(gate, stream=True, tools=tools)
    started = [event["content_block"] for event in events(reply.body) if event["type"] == "content_block_start"]
    assert [block["name"] for block in started] == [name + "2"]


async def test_translations_count_as_bodies_and_are_let_go_once_the_answer_begins(origin: Origin) -> None:
    source, go_on, has_begun = source_of(origin), asyncio.Event(), asyncio.Event()
    budget = BodyBudget(16 * MIB)

    async def script(seen: Seen, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        if len(origin.seen) == 1:
            assert budget.held > 3 * MIB, "the body, and what it became"
            writer.write(STREAM + chunk({"content": "so"}))
            await writer.drain()
            has_begun.set()
            await go_on.wait()
            writer.write(chunk(finish="stop") + DONE)
            await writer.drain()

    origin.scripts = [script]
    router = Router(RouterSettings(), MODELS, source.providers)
    async with running_gate(source, router=router, budget=budget) as gate:
        first = asyncio.ensure_future(ask(gate, "x" * (2 * MIB), stream=True))
        async with asyncio.timeout(10):
            await has_begun.wait()
            while budget.held:  # noqa: ASYNC110 - a number, that tells nobody
                await asyncio.sleep(0.001)
        refused = await ask(gate, "x" * (9 * MIB))
        assert (refused.status, error_of(refused.body)["type"]) == (503, "api_error")
        assert "half of the memory for request bodies" in error_of(refused.body)["message"]
        assert budget.held == 0
        go_on.set()
        assert events((await first).body)[-1]["type"] == "message_stop"


@pytest.mark.parametrize("model", ["m", "chat/gpt"])
@pytest.mark.parametrize("path", [b"/v1/messages", b"/v1/chat/completions"])
async def test_an_error_that_repeats_the_accounts_key_reaches_no_client_with_it(
    gate: Gate, origin: Origin, model: str, path: bytes
) -> None:
    message = "Incorrect API key provided: sk-proj-secret. Find yours in the dashboard."
    error = {"error": {"message": message, "type": "invalid_request_error"}}
    origin.scripts = [json_answer(json.dumps(error).encode(), status=400)]
    body = {"model": model, "max_tokens": 9, "messages": [{"role": "user", "content": "hello"}]}
    reply = await gate.call(path, [(b"anthropic-version", b"2023-06-01")], json.dumps(body).encode())
    assert reply.status == 400
    assert b"sk-proj-secret" not in reply.body
    assert b"Incorrect API key provided: **************. Find yours" in reply.body
