"""Requests of the Messages API at an upstream that speaks Chat Completions."""

import contextlib
import gzip
import json
from collections.abc import AsyncIterator
from typing import Any

import pytest

from gateway.rig import (
    Gate,
    Origin,
    Reply,
    Source,
    answering,
    api_key,
    error_of,
    json_answer,
    running_gate,
    running_origin,
)
from tokenferry.credentials import ApiKey
from tokenferry.gateway.telemetry.access_log import LogLine
from tokenferry.gateway.telemetry.decision_log import decision_of
from tokenferry.providers import Provider
from tokenferry.routing import Router
from tokenferry.secret import Secret
from tokenferry.settings import ModelMapping, ModelSettings, RouterSettings
from tokenferry.stores import Account
from tokenferry.wire._envelope import seal
from wire.rig import DONE, USAGE, chunk, events, fragment, message

pytestmark = pytest.mark.anyio

MODELS = (
    ModelSettings("mapped", (ModelMapping("chat", "gpt"), ModelMapping("native", "claude"))),
    ModelSettings("only", (ModelMapping("chat", "gpt"),)),
    ModelSettings("other", (ModelMapping("native", "claude"), ModelMapping("chat", "gpt"))),
    ModelSettings("small", (ModelMapping("chat", "mini", max_output_tokens=60, drop=("web_search",)),)),
)
SERVER_TOOL = [{"type": "web_search_20250305", "name": "web_search"}]
COMPLETION = {
    "id": "chatcmpl-1",
    "model": "gpt-5",
    "choices": [{"index": 0, "message": {"role": "assistant", "content": "so"}, "finish_reason": "stop"}],
    "usage": USAGE,
}
MESSAGE = b'{"id":"msg_1","type":"message","content":[],"usage":{"input_tokens":1,"output_tokens":2}}'
SPOKEN = [
    chunk({"role": "assistant", "content": ""}),
    chunk({"content": "It is"}),
    chunk(fragment(0, id="call_1", name="look", arguments='{"at": 1}')),
    chunk(finish="tool_calls"),
    chunk(usage=USAGE, choices=[]),
    DONE,
]


@pytest.fixture
async def native() -> AsyncIterator[Origin]:
    async with running_origin() as other:
        other.scripts = [json_answer(MESSAGE)]
        yield other


@pytest.fixture
async def gate(origin: Origin, native: Origin) -> AsyncIterator[Gate]:
    quirks = (("max_field", "max_completion_tokens"),)
    chat = Provider("chat", "openai", f"{origin.url}/v1", wire_format="openai", quirks=quirks)
    source = Source([chat, Provider("native", "native", native.url)], [Account("c", "chat", "api-key")])
    source.known.append(Account("n", "native", "api-key"))
    source.results = {"c": [ApiKey(Secret("sk-proj-secret"), header="authorization")], "n": [api_key()]}
    source.default_provider = "native"
    async with running_gate(source, router=Router(RouterSettings(), MODELS, source.providers)) as gate:
        yield gate


def streaming(*pieces: bytes, status: int = 200) -> Any:
    return answering(b"HTTP/1.1 %d X\r\ncontent-type: text/event-stream\r\n\r\n" % status + b"".join(pieces))


async def ask(gate: Gate, model: str = "only", **fields: Any) -> Reply:
    body = {"model": model, "max_tokens": 100, "messages": [{"role": "user", "content": "hello"}], **fields}
    headers = [(b"anthropic-version", b"2023-06-01"), (b"x-stainless-lang", b"python"), (b"x-own", b"words")]
    return await gate.call(b"/v1/messages?beta=true", headers, json.dumps(body).encode())


async def test_a_message_is_asked_for_and_answered_in_each_sides_own_format(gate: Gate, origin: Origin) -> None:
    origin.scripts = [json_answer(json.dumps(COMPLETION).encode(), headers=[b"x-ratelimit-remaining-requests: 9"])]
    reply = await ask(gate, top_k=3)
    document = json.loads(reply.body)
    assert (reply.status, reply.all(b"content-type")) == (200, [b"application/json"])
    assert document["content"] == [{"type": "text", "text": "so"}]
    assert document["usage"]["input_tokens"] == 40
    seen = origin.seen[0]
    assert seen.target == b"/v1/chat/completions"
    assert json.loads(seen.body) == {
        "model": "gpt",
        "messages": [{"role": "user", "content": "hello"}],
        "max_completion_tokens": 100,
    }
    names = {name for name, _ in seen.headers}
    assert names <= {
        b"host",
        b"content-type",
        b"content-length",
        b"accept",
        b"accept-encoding",
        b"user-agent",
        b"authorization",
        b"via",
        b"connection",
    }
    assert seen.all(b"authorization") == [b"Bearer sk-proj-secret"]
    record = await gate.records.last()
    assert (record.usage.input, record.usage.cache_read, record.usage.output) == (40, 60, 20)
    assert (record.upstream_model, record.served_model) == ("gpt", None)
    assert (record.translated, record.left_out) == ("anthropic-to-openai", ("top_k",))
    assert str(LogLine(record)).endswith(" translated=anthropic-to-openai left_out=top_k")
    assert LogLine(record).fields()["left_out"] == "top_k"
    assert decision_of(record).content["left_out"] == ["top_k"]


async def test_a_stream_is_passed_on_in_events_of_the_clients_format(gate: Gate, origin: Origin) -> None:
    origin.scripts = [streaming(*SPOKEN)]
    reply = await ask(gate, stream=True)
    assert reply.all(b"content-type") == [b"text/event-stream"]
    built = message(reply.body)
    assert [block["type"] for block in built["content"]] == ["text", "tool_use"]
    assert built["stop_reason"] == "tool_use"
    assert json.loads(origin.seen[0].body)["stream_options"] == {"include_usage": True}
    record = await gate.records.last()
    assert (record.usage.input, record.usage.output, record.error) == (40, 20, None)


async def test_what_the_format_cannot_say_goes_to_the_next_target(gate: Gate, origin: Origin, native: Origin) -> None:
    reply = await ask(gate, "mapped", tools=SERVER_TOOL)
    assert reply.status == 200
    assert origin.seen == []
    assert json.loads(native.seen[0].body)["tools"] == SERVER_TOOL
    record = await gate.records.last()
    assert (record.account, record.translated, record.attempts) == ("n", None, 1)
    assert "web_search_20250305" in json.dumps(decision_of(record).content["steps"])


async def test_if_no_target_can_express_it_the_client_gets_the_reason(gate: Gate, origin: Origin) -> None:
    reply = await ask(gate, tools=SERVER_TOOL)
    assert (reply.status, error_of(reply.body)["type"]) == (400, "invalid_request_error")
    assert "web_search_20250305" in error_of(reply.body)["message"]
    assert origin.seen == []


@pytest.mark.parametrize(("thread", "is_told"), [({"type": "create"}, True), (None, False)])
async def test_a_client_whose_conversation_cannot_be_stored_learns_it_from_a_code(
    gate: Gate, thread: object, *, is_told: bool
) -> None:
    """The tool runner of Anthropic's SDK asks to store each conversation, and goes on without if told so."""
    reply = await ask(gate, thread=thread, tools=SERVER_TOOL)
    error = json.loads(reply.body)["error"]
    assert (reply.status, "details" in error) == (400, is_told)
    if is_told:
        assert error["details"] == {"error_code": "thread_unsupported_request", "unsupported": ["thread"]}


async def test_a_mapping_lowers_the_limit_and_drops_what_it_names(gate: Gate, origin: Origin) -> None:
    origin.scripts = [json_answer(json.dumps(COMPLETION).encode())] * 2
    assert (await ask(gate, "small", tools=SERVER_TOOL)).status == 200
    assert (await ask(gate, "only")).status == 200
    small, only = (json.loads(seen.body) for seen in origin.seen)
    assert (small["max_completion_tokens"], only["max_completion_tokens"]) == (60, 100)
    assert "tools" not in small
    await gate.records.last(2)
    assert "web_search_20250305" in gate.records.all[0].left_out


@pytest.mark.parametrize("model", ["mapped", "other"])
async def test_failover_goes_from_either_format_to_the_other(
    gate: Gate, origin: Origin, native: Origin, model: str
) -> None:
    """Rate limits of either vendor are told in its own envelope, and headers."""
    limited, good = (origin, native) if model == "mapped" else (native, origin)
    error = b'{"error": {"message": "slow down", "type": "rate_limit_error", "code": "rate_limit_exceeded"}}'
    limited.scripts = [json_answer(error, status=429, headers=[b"retry-after: 60"])]
    good.scripts = [json_answer(json.dumps(COMPLETION).encode() if good is origin else MESSAGE)]
    reply = await ask(gate, model)
    assert (reply.status, json.loads(reply.body)["type"]) == (200, "message")
    assert (await gate.records.last()).translated == (None if model == "mapped" else "anthropic-to-openai")


async def test_an_error_with_status_200_counts_as_what_it_says(gate: Gate, origin: Origin, native: Origin) -> None:
    """MiniMax says in a `base_resp` that an account has no balance: the next one serves, and it is asked no more."""
    origin.scripts = [json_answer(b'{"base_resp": {"status_code": 1008, "status_msg": "insufficient balance"}}')]
    assert (await ask(gate, "mapped")).status == 200
    assert (await ask(gate, "mapped")).status == 200
    assert (len(origin.seen), len(native.seen)) == (1, 2)


@pytest.mark.parametrize(
    ("status", "body", "expected"),
    [
        (400, b'{"error": {"message": "no such field", "type": "x"}}', (400, "invalid_request_error", "no such field")),
        (404, b'{"error": {"message": "no such model", "type": "x"}}', (404, "not_found_error", "no such model")),
        (422, b'{"detail": "not like this"}', (400, "invalid_request_error", "not like this")),
    ],
)
async def test_an_error_comes_in_the_clients_envelope(
    gate: Gate, origin: Origin, status: int, body: bytes, expected: tuple[int, str, str]
) -> None:
    origin.scripts = [json_answer(body, status=status)]
    reply = await ask(gate)
    error = error_of(reply.body)
    assert (reply.status, error["type"], error["message"]) == expected
    assert reply.all(b"content-length") == [b"%d" % len(reply.body)]


@pytest.mark.parametrize(
    "script",
    [
        json_answer(b'{"error": {"message": "no more", "code": 503}}'),
        json_answer(b'{"choices": []}'),
        json_answer(b"<html>", headers=[b"x: y"]),
        streaming(b": waiting\n\n", b'data: {"error": {"message": "no more", "code": 503}}\n\n'),
        streaming(chunk({"role": "assistant", "content": ""})),
    ],
    ids=["an error with status 200", "no answer", "a page", "a stream of an error", "a stream of nothing"],
)
async def test_what_is_no_answer_never_looks_like_one(gate: Gate, origin: Origin, script: Any) -> None:
    """The next target serves, where another was mapped; else the client gets an error."""
    origin.scripts = [script]
    is_stream = script.__closure__ is not None and b"event-stream" in script.__closure__[0].cell_contents
    reply = await ask(gate, stream=is_stream)
    last = events(reply.body)[-1] if is_stream and reply.status == 200 else json.loads(reply.body)
    assert last["type"] == "error"
    assert (await gate.records.last()).error is not None


@pytest.mark.parametrize("stream", [True, False])
async def test_a_redirect_is_never_taken_for_an_answer(gate: Gate, origin: Origin, *, stream: bool) -> None:
    content = json.dumps(COMPLETION).encode()
    origin.scripts = [json_answer(content, status=307, headers=[b"location: http://127.0.0.1:1/elsewhere"])]
    reply = await ask(gate, stream=stream)
    assert (reply.status, reply.all(b"location")) == (502, [])
    assert "redirect" in error_of(reply.body)["message"]
    assert (await gate.records.last()).error == "upstream_redirect"
    assert len(origin.seen) == 1


async def test_reasoning_of_a_translated_answer_never_reaches_anthropics_api(gate: Gate, native: Origin) -> None:
    """CLIProxyAPI#1584, kaitranntt/ccs#415: a session that goes on at Claude was refused for foreign signatures."""
    sealed = {"type": "thinking", "thinking": "hm", "signature": seal("chat/gpt")}
    own = {"type": "thinking", "thinking": "hm", "signature": "EqQB"}
    said = {"type": "text", "text": "so"}
    turns = [
        {"role": "user", "content": "a"},
        {"role": "assistant", "content": [sealed, said]},
        {"role": "assistant", "content": [sealed]},
        {"role": "user", "content": [{"type": "text", "text": "b"}]},
        {"role": "assistant", "content": [own, said]},
        {"role": "user", "content": "c"},
    ]
    await ask(gate, "other", messages=turns)
    document = json.loads(native.seen[0].body)
    assert document["model"] == "claude"
    assert document["messages"] == [turns[0], {"role": "assistant", "content": [said]}, *turns[3:]]


async def test_a_stream_that_is_cut_ends_with_an_error(gate: Gate, origin: Origin) -> None:
    origin.scripts = [streaming(*SPOKEN[:3])]
    reply = await ask(gate, stream=True)
    assert events(reply.body)[-1]["type"] == "error"
    assert (await gate.records.last()).error == "api_error"


async def test_an_answer_that_its_upstream_compresses_unasked_is_read(gate: Gate, origin: Origin) -> None:
    coded = [b"content-encoding: gzip"]
    origin.scripts = [json_answer(gzip.compress(json.dumps(COMPLETION).encode()), headers=coded)]
    reply = await ask(gate)
    assert (reply.status, reply.all(b"content-encoding")) == (200, [])
    assert json.loads(reply.body)["content"] == [{"type": "text", "text": "so"}]
    head = b"HTTP/1.1 200 X\r\ncontent-type: text/event-stream\r\ncontent-encoding: gzip\r\n\r\n"
    origin.scripts = [answering(head + gzip.compress(b"".join(SPOKEN)))]
    assert message((await ask(gate, stream=True)).body)["stop_reason"] == "tool_use"
    error = gzip.compress(b'{"error": {"message": "too hot"}}')
    origin.scripts = [json_answer(error, status=400, headers=coded)]
    assert error_of((await ask(gate)).body)["message"] == "too hot"
    origin.scripts = [json_answer(b"{}", headers=coded)]
    assert (await ask(gate)).status >= 500


async def test_a_document_in_place_of_a_stream_is_an_error(gate: Gate, origin: Origin) -> None:
    origin.scripts = [json_answer(json.dumps(COMPLETION).encode())]
    reply = await ask(gate, stream=True)
    assert "stream" in error_of(reply.body)["message"]


async def count(gate: Gate, model: str, text: str = "word " * 660) -> tuple[Reply, int]:
    body = json.dumps({"model": model, "messages": [{"role": "user", "content": text}]}).encode()
    reply = await gate.call(b"/v1/messages/count_tokens?beta=true", [], body)
    return reply, json.loads(reply.body).get("input_tokens", 0)


async def test_tokens_are_estimated_where_the_upstream_counts_none(gate: Gate, origin: Origin, native: Origin) -> None:
    """litellm#13252, claude-relay-service#731: a client asks dozens of times a second, and an upstream is paid."""
    reply, tokens = await count(gate, "mapped")
    assert (reply.status, reply.all(b"x-tokenferry-estimated")) == (200, [b"input_tokens"])
    assert 1000 < tokens < 1100
    assert origin.seen == native.seen == []
    record = await gate.records.last()
    assert (record.status, record.provider, record.attempts, record.error) == (200, "chat", 0, None)
    assert gate.gateway.in_flight == 0


@pytest.mark.parametrize("stream", [True, False])
async def test_tokens_are_estimated_of_an_answer_whose_upstream_counts_none(
    gate: Gate, origin: Origin, *, stream: bool
) -> None:
    said = {"role": "assistant", "content": "word " * 800}
    choice = {"index": 0, "message": said, "finish_reason": "stop"}
    document = json.dumps({**COMPLETION, "choices": [choice], "usage": None}).encode()
    chunks = [chunk(said), chunk(finish="stop"), DONE]
    origin.scripts = [streaming(*chunks) if stream else json_answer(document)]
    reply = await ask(gate, messages=[{"role": "user", "content": "word " * 660}], stream=stream)
    assert reply.status == 200
    usage = (await gate.records.last()).usage
    assert usage.is_estimated
    assert usage.input is not None
    assert 1000 < usage.input < 1100
    assert usage.output is not None
    assert 1000 <= usage.output < 1010


async def test_an_estimate_is_calibrated_by_what_the_upstream_counted(gate: Gate, origin: Origin) -> None:
    counted = {"prompt_tokens": 2000, "completion_tokens": 1, "prompt_tokens_details": {"cached_tokens": 1500}}
    origin.scripts = [json_answer(json.dumps({**COMPLETION, "usage": counted}).encode())]
    words = [{"role": "user", "content": "word " * 2000}]
    assert (await ask(gate, messages=words)).status == 200
    await gate.records.last()
    _, tokens = await count(gate, "only", "word " * 2000)
    assert 2000 <= tokens <= 2000 * 1.3
    _, other = await count(gate, "small", "word " * 2000)
    assert other > 3000, "each model has its own"


async def test_tokens_are_the_upstreams_own_where_it_counts(gate: Gate, native: Origin) -> None:
    native.scripts = [json_answer(b'{"input_tokens": 7}')]
    reply, tokens = await count(gate, "other")
    assert (tokens, reply.all(b"x-tokenferry-estimated")) == (7, [])
    assert native.seen[0].target == b"/v1/messages/count_tokens?beta=true"
    assert (await gate.records.last()).usage.input is None, "to count costs nothing"


@pytest.mark.parametrize(
    ("status", "body", "is_estimated"),
    [
        (404, b'{"detail": "Not Found"}', True),
        (405, b"", True),
        (404, b'{"type":"error","error":{"type":"not_found_error","message":"model: x"}}', False),
        (400, b'{"type":"error","error":{"type":"invalid_request_error","message":"no"}}', False),
    ],
)
async def test_a_native_upstream_without_that_route_is_no_reason_to_fail(
    gate: Gate, native: Origin, status: int, body: bytes, *, is_estimated: bool
) -> None:
    native.scripts = [json_answer(body, status=status)]
    body = b'{"model": "claude-sonnet-4-5", "messages": [{"role": "user", "content": "hello"}]}'
    reply = await gate.call(b"/v1/messages/count_tokens", [], body)
    assert (reply.status == 200) == is_estimated
    assert bool(reply.all(b"x-tokenferry-estimated")) == is_estimated


async def test_a_model_that_nothing_maps_never_goes_there(gate: Gate, origin: Origin, native: Origin) -> None:
    with contextlib.suppress(ValueError):
        await ask(gate, "claude-sonnet-4-5")
    assert origin.seen == []
    assert len(native.seen) == 1


async def test_a_document_too_long_to_hold_is_given_up(
    gate: Gate, origin: Origin, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("tokenferry.gateway.proxy.translation._LONGEST_DOCUMENT", 1000)
    long = {**COMPLETION, "choices": [{"index": 0, "message": {"content": "x" * 10_000}}]}
    origin.scripts = [json_answer(json.dumps(long).encode())]
    reply = await ask(gate)
    assert reply.status == 502
    assert "too large" in error_of(reply.body)["message"]
    record = await gate.records.last()
    assert (record.error, gate.gateway.in_flight) == ("upstream_bad_answer", 0)
