"""Clients of Chat Completions, at upstreams of their own format and of the Messages API."""

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
    json_answer,
    running_gate,
    running_origin,
    token,
)
from tokenferry.credentials import ApiKey
from tokenferry.gateway.telemetry.usage_log import ledger_entry
from tokenferry.pool import Pool
from tokenferry.providers import Provider
from tokenferry.routing import Router
from tokenferry.secret import Secret
from tokenferry.settings import ModelMapping, ModelSettings, PoolSettings, RouterSettings
from tokenferry.stores import Account
from wire.rig import DONE, USAGE, chunk, chunks
from wire.rig import named as event
from wire.test_stream_from_messages import START, TRANSCRIPT

pytestmark = pytest.mark.anyio

PATH = b"/v1/chat/completions"
MODELS = (
    ModelSettings("same", (ModelMapping("chat", "gpt"),)),
    ModelSettings("both", (ModelMapping("chat", "gpt"), ModelMapping("native", "claude"))),
    ModelSettings("other", (ModelMapping("native", "claude"), ModelMapping("chat", "gpt"))),
)
COMPLETION = {
    "id": "chatcmpl-1",
    "object": "chat.completion",
    "model": "gpt-5",
    "choices": [{"index": 0, "message": {"role": "assistant", "content": "so"}, "finish_reason": "stop"}],
    "usage": {**USAGE, "completion_tokens_details": {"reasoning_tokens": 7}},
}
MESSAGE_USAGE = {
    "input_tokens": 10,
    "output_tokens": 2,
    "cache_read_input_tokens": 5,
    "cache_creation": {"ephemeral_1h_input_tokens": 3, "ephemeral_5m_input_tokens": 0},
    "cache_creation_input_tokens": 3,
    "inference_geo": "us",
}
MESSAGE = json.dumps(
    {
        "id": "msg_1",
        "type": "message",
        "model": "claude-served",
        "content": [{"type": "text", "text": "hi"}],
        "stop_reason": "end_turn",
        "usage": MESSAGE_USAGE,
    }
).encode()
ROLE = chunk({"role": "assistant", "content": ""})
SPOKEN = [
    ROLE,
    chunk({"content": "It"}, usage=None),
    chunk(finish="stop"),
    chunk(usage=USAGE, choices=[], service_tier="flex"),
    DONE,
]
LIMITED = json_answer(
    b'{"error": {"message": "slow down", "type": "rate_limit_error", "code": "rate_limit_exceeded"}}',
    status=429,
    headers=[b"retry-after: 60"],
)
OVERLOADED = event("error", error={"type": "overloaded_error", "message": "busy"})


@pytest.fixture
async def native() -> AsyncIterator[Origin]:
    async with running_origin() as other:
        other.scripts = [json_answer(MESSAGE)]
        yield other


@pytest.fixture
def source(origin: Origin, native: Origin) -> Source:
    origin.scripts = [json_answer(json.dumps(COMPLETION).encode())]
    chat = Provider("chat", "openai", f"{origin.url}/v1", wire_format="openai")
    source = Source([chat, Provider("native", "native", native.url)], [Account("c", "chat", "api-key")])
    source.known.append(Account("n", "native", "api-key"))
    source.results = {"c": [ApiKey(Secret("sk-proj-secret"), header="authorization")], "n": [api_key()]}
    source.default_provider = "native"
    return source


@pytest.fixture
async def gate(source: Source) -> AsyncIterator[Gate]:
    async with running_gate(source, router=Router(RouterSettings(), MODELS, source.providers)) as gate:
        yield gate


def streaming(*pieces: bytes) -> Any:
    return answering(b"HTTP/1.1 200 X\r\ncontent-type: text/event-stream\r\n\r\n" + b"".join(pieces))


def asking(model: str, **fields: Any) -> bytes:
    return json.dumps({"messages": [{"role": "user", "content": "hello"}], "model": model, **fields}).encode()


async def ask(gate: Gate, model: str, headers: Any = None, **fields: Any) -> Reply:
    return await gate.call(PATH, headers, asking(model, **fields))


def error_in(reply: Reply) -> dict[str, Any]:
    """The error in an envelope of OpenAI's."""
    document: dict[str, Any] = json.loads(reply.body)
    assert document.keys() == {"error"}
    assert document["error"].keys() == {"message", "type", "param", "code"}
    error: dict[str, Any] = document["error"]
    return error


async def test_at_an_upstream_of_its_format_every_byte_but_the_model_passes(gate: Gate, origin: Origin) -> None:
    headers = [(b"openai-organization", b"org-mine"), (b"openai-project", b"p"), (b"x-stainless-lang", b"python")]
    body = b' {"n": 2, "model" :"same","logprobs":true, "messages":[] , "unheard_of":1e3}\n'
    reply = await gate.call(PATH + b"?a=1", headers, body)
    assert (reply.status, json.loads(reply.body)) == (200, COMPLETION)
    seen = origin.seen[0]
    assert (seen.target, seen.body) == (b"/v1/chat/completions?a=1", body.replace(b'"same"', b'"gpt"'))
    assert seen.all(b"authorization") == [b"Bearer sk-proj-secret"]
    names = {name for name, _ in seen.headers}
    assert b"x-stainless-lang" in names
    assert not names & {b"openai-organization", b"openai-project", b"anthropic-version"}
    record = await gate.records.last()
    usage = record.usage
    assert (usage.input, usage.cache_read, usage.output, usage.thinking) == (40, 60, 20, 7)
    assert (record.translated, record.left_out, record.upstream_model) == (None, (), "gpt")
    assert not ledger_entry(lambda *_: "metered", record).is_side


async def test_a_stream_of_its_format_passes_and_is_counted(gate: Gate, origin: Origin) -> None:
    origin.scripts = [streaming(*SPOKEN)]
    reply = await ask(gate, "same", stream=True)
    assert reply.body == b"".join(SPOKEN)
    record = await gate.records.last()
    assert (record.usage.input, record.usage.output, record.usage.service_tier) == (40, 20, "flex")
    assert (record.served_model, record.error, record.usage.is_estimated) == ("gpt", None, False)


@pytest.mark.parametrize("count", range(len(SPOKEN)))
async def test_a_stream_of_its_format_that_ends_early_ends_with_an_error(
    gate: Gate, origin: Origin, count: int
) -> None:
    """A finish reason is the end of the answer; only usage that was asked for follows it."""
    origin.scripts = [streaming(*SPOKEN[:count], SPOKEN[count][:-3])]
    reply = await ask(gate, "same", stream=True)
    if count < 3:
        assert count < 1 or "error" in list(chunks(reply.body))[-1]
        assert (await gate.records.last()).error is not None
    else:
        assert reply.body.startswith(b"".join(SPOKEN[:3]))
        assert (await gate.records.last()).error is None


@pytest.mark.parametrize(
    "fields",
    [{}, {"stream_options": {"include_usage": False}}, {"user": "include_usage"}],
    ids=["nothing asked for", "no usage asked for", "the word elsewhere"],
)
async def test_what_the_upstream_did_not_count_is_estimated(gate: Gate, origin: Origin, fields: dict[str, Any]) -> None:
    origin.scripts = [streaming(ROLE, chunk({"content": "four" * 10}), chunk(finish="stop"), DONE)]
    await ask(gate, "same", stream=True, **fields)
    usage = (await gate.records.last()).usage
    assert (usage.output, usage.is_estimated) == (10, True)
    assert usage.input is not None
    assert 20 <= usage.input <= 60, "a budget can't be got around by asking for no usage"


async def test_a_messages_upstream_answers_in_the_clients_format(gate: Gate, native: Origin) -> None:
    reply = await ask(gate, "other", seed=3, max_tokens=9)
    document = json.loads(reply.body)
    assert (document["object"], document["choices"][0]["message"]["content"]) == ("chat.completion", "hi")
    assert document["created"] > 1_700_000_000
    seen = native.seen[0]
    assert seen.target == b"/v1/messages"
    assert (seen.all(b"x-api-key"), seen.all(b"anthropic-version")) == ([b"sk-ant-api03-one"], [b"2023-06-01"])
    assert json.loads(seen.body)["model"] == "claude"
    record = await gate.records.last()
    assert (record.translated, record.left_out) == ("openai-to-anthropic", ("seed",))
    usage = record.usage
    assert (usage.input, usage.output, usage.cache_read, usage.cache_creation_1h) == (10, 2, 5, 3)
    assert usage.inference_geo == "us", "what changes the price isn't lost in translation"
    assert record.served_model is None


@pytest.mark.parametrize("wants_usage", [True, False])
async def test_a_messages_stream_is_counted_whether_or_not_the_client_asks_for_it(
    gate: Gate, native: Origin, *, wants_usage: bool
) -> None:
    native.scripts = [streaming(*TRANSCRIPT)]
    options = {"stream_options": {"include_usage": True}} if wants_usage else {}
    reply = await ask(gate, "other", stream=True, **options)
    assert reply.body.endswith(DONE)
    found = list(chunks(reply.body))
    assert ("usage" in found[-1]) == wants_usage
    calls = [call for one in found for choice in one["choices"] for call in choice["delta"].get("tool_calls", ())]
    assert [call["id"] for call in calls if "id" in call] == ["toolu_1", "toolu_2"]
    record = await gate.records.last()
    assert (record.usage.input, record.usage.cache_read, record.usage.output) == (40, 50, 20)
    assert (record.served_model, record.error, record.usage.is_estimated) == ("claude", None, False)


async def test_an_accounts_login_brings_the_betas_that_it_needs(source: Source, native: Origin) -> None:
    source.results["n"] = [token("login")]
    async with running_gate(source) as gate:
        await ask(gate, "claude")
    assert native.seen[0].all(b"authorization") == [b"Bearer sk-ant-oat01-login"]
    assert native.seen[0].all(b"anthropic-beta") == [b"oauth-2025-04-20"]


@pytest.mark.parametrize("name", [b"authorization", b"x-api-key"])
async def test_the_client_key_is_taken_from_either_header(gate: Gate, name: bytes) -> None:
    value = gate.key if name == b"x-api-key" else b"Bearer " + gate.key
    assert (await ask(gate, "same", [(name, value)])).status == 200


@pytest.mark.parametrize(
    ("headers", "body", "status", "code"),
    [
        ([(b"authorization", b"Bearer tfk_wrong")], asking("same"), 401, "invalid_api_key"),
        ([], b"{", 400, None),
        ([(b"content-type", b"text/plain")], b"{}", 415, None),
    ],
)
async def test_a_refusal_of_our_own_is_worded_as_openai_does(
    gate: Gate, headers: Any, body: bytes, status: int, code: str | None
) -> None:
    reply = await gate.call(PATH, headers, body)
    error = error_in(reply)
    assert (reply.status, error["type"], error["code"]) == (status, "invalid_request_error", code)
    assert error["message"]
    assert reply.all(b"x-tokenferry-error")


async def test_a_wrong_method_or_path_is_reported_in_the_callers_format(gate: Gate) -> None:
    assert error_in(await gate.call(PATH, method=b"GET"))["type"] == "invalid_request_error"
    reply = await gate.call(b"/v1/v1/chat/completions")
    assert (reply.status, error_in(reply)["code"]) == (404, "not_found")


@pytest.mark.parametrize("model", ["both", "other"])
@pytest.mark.parametrize("is_stream", [True, False])
async def test_failover_goes_from_either_format_to_the_other(
    gate: Gate, origin: Origin, native: Origin, model: str, *, is_stream: bool
) -> None:
    """An answer in place of an overload that comes as a stream's first event, or of a rate limit."""
    good_chat = streaming(*SPOKEN) if is_stream else json_answer(json.dumps(COMPLETION).encode())
    good_native = streaming(*TRANSCRIPT) if is_stream else json_answer(MESSAGE)
    error = b'data: {"error": {"message": "busy", "code": 503}}\n\n'
    bad_chat = streaming(ROLE, error) if is_stream else LIMITED
    bad_native = streaming(START, OVERLOADED) if is_stream else LIMITED
    origin.scripts, native.scripts = ([bad_chat], [good_native]) if model == "both" else ([good_chat], [bad_native])
    reply = await ask(gate, model, stream=is_stream)
    assert reply.status == 200
    assert b'"error"' not in reply.body
    assert len(native.seen) >= 1
    assert len(origin.seen) >= 1
    record = await gate.records.last()
    assert record.account == ("n" if model == "both" else "c")
    assert record.usage.output == ((20 if is_stream else 2) if model == "both" else 20)


async def test_what_no_target_can_say_is_refused_with_the_field(gate: Gate, native: Origin, origin: Origin) -> None:
    reply = await ask(gate, "unmapped", n=2)
    assert (reply.status, native.seen) == (400, [])
    assert "n " in error_in(reply)["message"]
    origin.scripts = [LIMITED]
    reply = await ask(gate, "both", n=2)
    assert (reply.status, error_in(reply)["code"]) == (429, "rate_limit_exceeded")
    assert (len(origin.seen), native.seen) == (1, [])


@pytest.mark.parametrize(
    ("status", "kind", "expected"),
    [
        (400, "invalid_request_error", (400, "invalid_request_error", None)),
        (404, "not_found_error", (404, "invalid_request_error", "model_not_found")),
    ],
)
async def test_a_messages_error_comes_in_the_clients_envelope(
    gate: Gate, native: Origin, status: int, kind: str, expected: tuple[int, str, str | None]
) -> None:
    error = {"type": "error", "error": {"type": kind, "message": "not so"}}
    native.scripts = [json_answer(json.dumps(error).encode(), status=status)]
    reply = await ask(gate, "unmapped")
    found = error_in(reply)
    assert (reply.status, found["type"], found["code"]) == expected
    assert found["message"] == "not so"


@pytest.mark.parametrize("count", range(1, len(TRANSCRIPT)))
async def test_a_messages_stream_that_is_cut_ends_with_an_error(gate: Gate, native: Origin, count: int) -> None:
    native.scripts = [streaming(*TRANSCRIPT[:count], TRANSCRIPT[count][:20])]
    reply = await ask(gate, "unmapped", stream=True)
    assert DONE not in reply.body
    last = list(chunks(reply.body))[-1] if reply.status == 200 else json.loads(reply.body)
    assert last["error"]["message"]
    record = await gate.records.last()
    assert record.error is not None
    assert record.usage.input == (40 if reply.status == 200 else None)


async def test_a_conversation_keeps_its_account_by_the_key_of_its_prompt_cache(source: Source, native: Origin) -> None:
    """Two conversations that begin at once go to two accounts, and go on there."""
    source.known.append(Account("m", "native", "api-key"))
    source.results["m"] = [api_key("two")]
    pool = Pool(PoolSettings(strategy="round-robin"))
    async with running_gate(source, pool=pool) as gate:
        for name in ("a", "b", "a", "b", "b", "a"):
            assert (await ask(gate, "claude", prompt_cache_key=name)).status == 200
    served = [seen.all(b"x-api-key")[0] for seen in native.seen]
    assert served[0] != served[1]
    assert served[2:] == [served[0], served[1], served[1], served[0]]


async def test_the_messages_api_is_served_beside_it_as_before(gate: Gate, native: Origin) -> None:
    body = b'{"model":"claude-x","max_tokens":1,"messages":[]}'
    reply = await gate.call(b"/v1/messages", None, body)
    assert (reply.body, native.seen[0].body) == (MESSAGE, body)
