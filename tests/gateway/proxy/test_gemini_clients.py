"""Clients of Gemini's API, at upstreams of the Messages API, of Chat Completions and of their own."""

import json
from collections.abc import AsyncIterator
from typing import Any

import pytest

from gateway.proxy.test_chat_clients import LIMITED, MESSAGE, OVERLOADED, SPOKEN, streaming
from gateway.proxy.test_chat_clients import native as _native
from gateway.proxy.test_chat_clients import source as _source
from gateway.rig import Gate, Origin, Reply, Source, json_answer, running_gate
from tokenferry.credentials import ApiKey
from tokenferry.gateway.http.model_path import ModelPath, model_path
from tokenferry.gateway.telemetry.usage_log import ledger_entry
from tokenferry.providers import Provider
from tokenferry.routing import Router
from tokenferry.secret import Secret
from tokenferry.settings import ModelMapping, ModelSettings, RouterSettings
from tokenferry.stores import Account
from tokenferry.wire.gemini._thoughts import sealed_thoughts
from tokenferry.wire.messages import _models as messages
from wire.rig import chunks
from wire.test_stream_from_messages import START, TRANSCRIPT

pytestmark = pytest.mark.anyio

source, native = _source, _native
MODELS = (
    ModelSettings("claude", (ModelMapping("native", "claude-1"), ModelMapping("chat", "gpt"))),
    ModelSettings("gpt", (ModelMapping("chat", "gpt-1"), ModelMapping("native", "claude"))),
    ModelSettings("a/b:c", (ModelMapping("native", "claude-2"),)),
)
HELLO: dict[str, Any] = {"contents": [{"role": "user", "parts": [{"text": "hello"}]}]}


@pytest.fixture
async def gate(source: Source) -> AsyncIterator[Gate]:
    async with running_gate(source, router=Router(RouterSettings(), MODELS, source.providers)) as gate:
        yield gate


async def ask(
    gate: Gate, model: str, method: str = "generateContent", headers: Any = None, query: bytes = b"", **fields: Any
) -> Reply:
    target = f"/v1beta/models/{model}:{method}".encode() + query
    given = [(b"x-goog-api-key", gate.key)] if headers is None else headers
    return await call(gate, target, given, json.dumps({**HELLO, **fields}).encode())


async def call(gate: Gate, target: bytes, headers: Any, body: bytes = b"", method: bytes = b"POST") -> Reply:
    """A request with these headers alone."""
    lines = [b"%b %b HTTP/1.1" % (method, target), b"host: " + gate.host, *(b"%b: %b" % one for one in headers)]
    if method == b"POST":
        lines += [b"content-type: application/json", b"content-length: %d" % len(body)]
    return await gate.raw(b"\r\n".join([*lines, b"", b""]) + body, method=method)


def error_in(reply: Reply) -> dict[str, Any]:
    """The error in an envelope of Google's."""
    document: dict[str, Any] = json.loads(reply.body)
    assert document.keys() == {"error"}
    error: dict[str, Any] = document["error"]
    assert error.keys() - {"details"} == {"code", "message", "status"}
    assert error["code"] == reply.status
    return error


def text_of(*answers: dict[str, Any]) -> str:
    parts = [part for one in answers for part in one["candidates"][0]["content"]["parts"]]
    return "".join(part.get("text", "") for part in parts if not part.get("thought"))


async def test_a_messages_upstream_answers_in_the_clients_format(gate: Gate, native: Origin) -> None:
    reply = await ask(gate, "claude", generationConfig={"seed": 3, "maxOutputTokens": 9})
    document = json.loads(reply.body)
    assert (reply.status, text_of(document)) == (200, "hi")
    assert document["candidates"][0]["finishReason"] == "STOP"
    assert document["usageMetadata"]["promptTokenCount"] == 18
    seen = native.seen[0]
    assert (seen.target, seen.all(b"x-api-key")) == (b"/v1/messages", [b"sk-ant-api03-one"])
    sent = json.loads(seen.body)
    assert (sent["model"], sent["max_tokens"], sent.get("stream")) == ("claude-1", 9, None)
    assert not seen.all(b"x-goog-api-key")
    record = await gate.records.last()
    assert (record.translated, record.left_out) == ("gemini-to-anthropic", ("seed",))
    assert (record.model, record.upstream_model, record.usage.output) == ("claude", "claude-1", 2)
    assert not ledger_entry(lambda *_: "metered", record).is_side


async def test_a_stream_is_events_for_who_asks_for_them(gate: Gate, native: Origin) -> None:
    native.scripts = [streaming(*TRANSCRIPT)]
    reply = await ask(gate, "claude", "streamGenerateContent", query=b"?alt=sse")
    assert reply.all(b"content-type") == [b"text/event-stream"]
    found = list(chunks(reply.body))
    assert text_of(*found) == "It is 🌧️"
    assert found[-1]["usageMetadata"]["promptTokenCount"] == 100
    assert json.loads(native.seen[0].body)["stream"] is True
    record = await gate.records.last()
    assert (record.usage.input, record.usage.cache_read, record.usage.output) == (40, 50, 20)
    assert (record.served_model, record.error) == ("claude", None)


async def test_a_stream_is_one_array_for_who_asks_for_no_events(gate: Gate, native: Origin) -> None:
    native.scripts = [streaming(*TRANSCRIPT), streaming(*TRANSCRIPT[:6])]
    reply = await ask(gate, "claude", "streamGenerateContent")
    assert reply.all(b"content-type") == [b"application/json; charset=UTF-8"]
    assert text_of(*json.loads(reply.body)) == "It is 🌧️"
    cut = json.loads((await ask(gate, "claude", "streamGenerateContent")).body)
    assert list(cut[-1]) == ["error"]
    assert (await gate.records.last()).error is not None


async def test_chat_completions_answer_too_and_failover_goes_on_to_the_other_format(
    gate: Gate, origin: Origin, native: Origin
) -> None:
    reply = await ask(gate, "gpt")
    assert text_of(json.loads(reply.body)) == "so"
    assert json.loads(origin.seen[0].body)["model"] == "gpt-1"
    origin.scripts = [LIMITED]
    assert text_of(json.loads((await ask(gate, "gpt")).body)) == "hi"
    assert (await gate.records.last()).account == "n"


async def test_an_overload_as_a_streams_first_event_is_answered_by_another(
    gate: Gate, origin: Origin, native: Origin
) -> None:
    native.scripts, origin.scripts = [streaming(START, OVERLOADED)], [streaming(*SPOKEN)]
    reply = await ask(gate, "claude", "streamGenerateContent", query=b"?alt=sse")
    assert text_of(*chunks(reply.body)) == "It"
    assert len(origin.seen) == 1


@pytest.mark.parametrize("count", range(1, len(TRANSCRIPT)))
async def test_a_stream_that_is_cut_ends_with_an_error(gate: Gate, native: Origin, origin: Origin, count: int) -> None:
    native.scripts = [streaming(*TRANSCRIPT[:count], TRANSCRIPT[count][:20])]
    origin.scripts = [LIMITED]
    reply = await ask(gate, "a/b:c", "streamGenerateContent", query=b"?alt=sse")
    last = list(chunks(reply.body))[-1] if reply.status == 200 else json.loads(reply.body)
    assert last["error"]["message"]
    assert b"finishReason" not in reply.body


@pytest.mark.parametrize("model", ["a/b:c", "a%2Fb%3Ac"])
async def test_a_models_name_may_have_slashes_and_colons(gate: Gate, native: Origin, model: str) -> None:
    assert (await ask(gate, model)).status == 200
    assert json.loads(native.seen[0].body)["model"] == "claude-2"


@pytest.mark.parametrize("name", [b"x-goog-api-key", b"authorization", b"x-api-key"])
async def test_the_client_key_is_taken_from_either_header(gate: Gate, name: bytes) -> None:
    value = b"Bearer " + gate.key if name == b"authorization" else gate.key
    assert (await ask(gate, "claude", headers=[(name, value)])).status == 200
    assert (await ask(gate, "claude", headers=[(name, value[:-1])])).status == 401


async def test_the_client_key_is_taken_from_the_query_and_goes_no_further(
    gate: Gate, native: Origin, caplog: pytest.LogCaptureFixture
) -> None:
    key = gate.key.decode()
    query = b"?%24httpMethod=GET&key=" + gate.key
    native.scripts = [json_answer(MESSAGE), json_answer(b'{"data":[]}')]
    assert (await ask(gate, "claude", headers=[], query=query)).status == 200
    record = await gate.records.last()
    await call(gate, b"/v1beta/models?pageSize=5&key=" + gate.key, [], method=b"GET")
    for seen in native.seen:
        assert key not in repr((seen.target, seen.headers, seen.body))
        assert b"httpMethod" not in seen.target
    assert key not in record.path
    assert key not in caplog.text
    assert (await ask(gate, "claude", headers=[], query=b"?key=" + gate.key + b"x")).status == 401
    assert (await ask(gate, "claude", headers=[], query=query + b"&key=other")).status == 400
    assert (await ask(gate, "claude", headers=[], query=b"?access_token=" + gate.key)).status == 401
    assert (await call(gate, b"/v1/messages" + query, [], b"{}")).status == 401, "other APIs have no such key"


async def test_tokens_are_estimated_where_the_upstream_counts_none_of_this_format(gate: Gate, native: Origin) -> None:
    reply = await ask(gate, "claude", "countTokens")
    assert json.loads(reply.body)["totalTokens"] > 10
    assert reply.all(b"x-tokenferry-estimated")
    assert native.seen == []
    assert ledger_entry(lambda *_: "metered", await gate.records.last()).is_side


async def test_refusals_of_our_own_are_worded_as_google_does(gate: Gate) -> None:
    refused = await ask(gate, "claude", headers=[(b"x-goog-api-key", b"tfk_wrong")])
    assert (refused.status, error_in(refused)["status"]) == (401, "UNAUTHENTICATED")
    for fields, said in (
        ({"cachedContent": "x"}, "cachedContent"),
        ({"tools": [{"googleSearch": {}}]}, "googleSearch"),
    ):
        reply = await ask(gate, "claude", **fields)
        assert (reply.status, error_in(reply)["status"]) == (400, "INVALID_ARGUMENT")
        assert said in error_in(reply)["message"]
    for body in (b"[]", b"{", b"", b'{"model":"x"}', b"{} {}"):
        key = [(b"x-goog-api-key", gate.key)]
        reply = await call(gate, b"/v1beta/models/claude:generateContent", key, body)
        assert (reply.status, error_in(reply)["code"]) == (400, 400)
    for given, query in ((key, b""), ([], b"?key=" + gate.key)):
        reply = await call(gate, b"/v1beta/models/claude:embedContent" + query, given, b"{}")
        assert (reply.status, error_in(reply)["status"]) == (404, "NOT_FOUND")


async def test_how_long_to_wait_is_in_the_error(gate: Gate, native: Origin) -> None:
    """The Gemini CLI waits by it."""
    native.scripts = [LIMITED]
    for _ in range(2):
        reply = await ask(gate, "a/b:c")
    error = error_in(reply)
    assert (reply.status, error["status"]) == (429, "RESOURCE_EXHAUSTED")
    (wait,) = error["details"]
    assert wait["@type"] == "type.googleapis.com/google.rpc.RetryInfo"
    assert wait["retryDelay"] == f"{reply.all(b'retry-after')[0].decode()}s"


@pytest.mark.parametrize(
    ("status", "kind", "expected"),
    [(400, "invalid_request_error", "INVALID_ARGUMENT"), (404, "not_found_error", "NOT_FOUND")],
)
async def test_an_upstreams_error_comes_in_the_clients_envelope(
    gate: Gate, native: Origin, status: int, kind: str, expected: str
) -> None:
    told = {"type": "error", "error": {"type": kind, "message": "not so"}}
    native.scripts = [json_answer(json.dumps(told).encode(), status=status)]
    reply = await ask(gate, "a/b:c")
    assert (reply.status, error_in(reply)) == (status, {"code": status, "message": "not so", "status": expected})


async def test_what_the_body_says_of_model_and_stream_is_not_believed(gate: Gate, native: Origin) -> None:
    reply = await ask(gate, "claude", stream=True)
    assert text_of(json.loads(reply.body)) == "hi"
    assert json.loads(native.seen[0].body).get("stream") is None


async def test_models_are_listed_in_the_clients_shape(source: Source, native: Origin) -> None:
    entry = {"type": "model", "id": "claude-a", "display_name": "Claude A", "created_at": "2025-09-29T00:00:00Z"}
    listed = {"data": [entry]}
    native.scripts = [json_answer(json.dumps(listed).encode())]
    settings = RouterSettings(list_models="merge")
    async with running_gate(source, settings=settings, router=Router(settings, MODELS, source.providers)) as gate:
        key = [(b"x-goog-api-key", gate.key)]
        document = json.loads((await call(gate, b"/v1beta/models", key, method=b"GET")).body)
        names = [one["name"] for one in document["models"]]
        assert names == ["models/claude", "models/gpt", "models/a/b:c", "models/claude-a"]
        assert "generateContent" in document["models"][-1]["supportedGenerationMethods"]
        agent = [(b"authorization", b"Bearer " + gate.key), (b"x-goog-api-client", b"google-genai-sdk/3.6")]
        for given in (key, agent):
            assert json.loads((await call(gate, b"/v1/models", given, method=b"GET")).body) == document
        one = json.loads((await call(gate, b"/v1beta/models/gpt", key, method=b"GET")).body)
        assert one["name"] == "models/gpt"
        native.scripts = [json_answer(json.dumps(entry).encode())]
        one = json.loads((await call(gate, b"/v1beta/models/claude-a", key, method=b"GET")).body)
        assert (one["name"], one["displayName"]) == ("models/claude-a", "Claude A")
        native.scripts = [json_answer(b'{"error":{"type":"not_found_error","message":"no"}}', status=404)]
        reply = await call(gate, b"/v1beta/models/none", key, method=b"GET")
        assert (reply.status, error_in(reply)["status"]) == (404, "NOT_FOUND")
    assert native.seen[0].target == b"/v1/models?limit=1000"


@pytest.mark.parametrize(
    ("path", "expected"),
    [
        (b"/v1beta/models/gemini-3:generateContent", ModelPath("gemini-3", "generateContent")),
        (b"/v1beta/models/a/b:8b:countTokens", ModelPath("a/b:8b", "countTokens")),
        (b"/v1beta/models/a%2fb:streamGenerateContent", ModelPath("a/b", "streamGenerateContent")),
        (b"/v1beta/models/../x:generateContent", None),
        (b"/v1beta/models/a/%2e%2e/b:generateContent", None),
        (b"/v1beta/models/a//b:generateContent", None),
        (b"/v1beta/models/a%00:generateContent", None),
        (b"/v1beta/models/a%ff:generateContent", None),
        (b"/v1beta/models/:generateContent", None),
        (b"/v1beta/models/x:embedContent", None),
        (b"/v1beta/models/" + b"x" * 600 + b":generateContent", None),
        (b"/v1/models/x:generateContent", ModelPath("x", "generateContent")),
        (b"/v1alpha/models/x:generateContent", None),
    ],
)
def test_a_path_names_a_model_and_what_it_is_asked_for(path: bytes, expected: ModelPath | None) -> None:
    assert model_path(path) == expected


def test_a_path_is_written_for_an_upstream_that_calls_the_model_so() -> None:
    assert ModelPath("x", "countTokens").target("a b/ü:1?#") == b"/models/a%20b/%C3%BC:1%3F%23:countTokens"
    assert ModelPath("x", "countTokens").target("tunedModels/y") == b"/tunedModels/y:countTokens"
    assert ModelPath("x", "countTokens").target("models/y") == b"/models/y:countTokens"
    assert ModelPath("x", "streamGenerateContent").target("y") == b"/models/y:streamGenerateContent?alt=sse"


ANSWER = {
    "candidates": [{"content": {"role": "model", "parts": [{"text": "so"}]}, "finishReason": "STOP", "index": 0}],
    "usageMetadata": {"promptTokenCount": 10, "candidatesTokenCount": 2},
    "modelVersion": "gemini-3-served",
    "unheardOf": [1e3],
}
SIGNED = {"functionCall": {"name": "f", "args": {}}, "thoughtSignature": "c2lnbmVk"}


@pytest.fixture
async def google(source: Source, origin: Origin) -> AsyncIterator[Gate]:
    """A gateway before Gemini's own API."""
    source.providers["google"] = Provider("google", "gemini", f"{origin.url}/v1beta", wire_format="gemini")
    source.known.append(Account("g", "google", "api-key"))
    source.results["g"] = [ApiKey(Secret("AIza-secret"), header="x-goog-api-key")]
    models = (ModelSettings("own", (ModelMapping("google", "gemini-3-pro"), ModelMapping("native", "claude"))),)
    origin.scripts = [json_answer(json.dumps(ANSWER).encode())]
    async with running_gate(source, router=Router(RouterSettings(), models, source.providers)) as gate:
        yield gate


@pytest.mark.parametrize("body", [b' {"contents" :[], "unheard_of":1e3, "stream": 7} \n', b"{}", b" { } "])
async def test_at_an_upstream_of_its_format_every_byte_of_the_body_passes(
    google: Gate, origin: Origin, body: bytes
) -> None:
    key = [(b"x-goog-api-key", google.key), (b"x-goog-user-project", b"mine"), (b"x-goog-api-client", b"sdk")]
    reply = await call(google, b"/v1/models/own:generateContent?fields=x", key, body)
    assert (reply.status, json.loads(reply.body)) == (200, ANSWER)
    seen = origin.seen[0]
    assert (seen.target, seen.body) == (b"/v1beta/models/gemini-3-pro:generateContent", body)
    assert (seen.all(b"x-goog-api-key"), seen.all(b"x-goog-user-project")) == ([b"AIza-secret"], [])
    assert seen.all(b"x-goog-api-client") == [b"sdk"]
    record = await google.records.last()
    assert (record.translated, record.usage.input, record.usage.output) == (None, 10, 2)
    assert record.upstream_model == "gemini-3-pro"


async def test_tokens_are_counted_by_an_upstream_of_its_format(google: Gate, origin: Origin) -> None:
    origin.scripts = [json_answer(b'{"totalTokens":7}')]
    assert (await ask(google, "own", "countTokens")).body == b'{"totalTokens":7}'
    assert origin.seen[0].target == b"/v1beta/models/gemini-3-pro:countTokens"


async def test_a_request_to_be_counted_names_the_mapped_model(google: Gate, origin: Origin) -> None:
    origin.scripts = [json_answer(b'{"totalTokens":7}')]
    counted = {"model": "models/own", "contents": [], "unheardOf": 1}
    body = json.dumps({"generateContentRequest": counted}).encode()
    reply = await call(google, b"/v1beta/models/own:countTokens", [(b"x-goog-api-key", google.key)], body)
    assert reply.status == 200
    sent = json.loads(origin.seen[0].body)
    assert sent == {"generateContentRequest": counted | {"model": "models/gemini-3-pro"}}


@pytest.mark.parametrize("odd", [b"1e999", b"1.10000000000000000001", b"[" * 90 + b"]" * 90])
async def test_what_is_counted_reaches_the_vendor_as_it_was_written(google: Gate, origin: Origin, odd: bytes) -> None:
    origin.scripts = [json_answer(b'{"totalTokens":7}')]
    body = b'{"generateContentRequest":{"model":"models/own","x":%b}}'
    reply = await call(google, b"/v1beta/models/own:countTokens", [(b"x-goog-api-key", google.key)], body % odd)
    assert reply.status == 200
    assert origin.seen[0].body == (body % odd).replace(b"own", b"gemini-3-pro")


def test_no_other_model_is_counted_than_the_path_names() -> None:
    counted = ModelPath("own", "countTokens").renamed(
        b'{"generateContentRequest":{"model":"models/dear","model":"dear"}}', "own"
    )
    assert json.loads(counted) == {"generateContentRequest": {"model": "models/own"}}


@pytest.mark.parametrize("body", [rb'{"x":"\ud83d"}', rb'{"generateContentRequest":{"model":"models/own","\ud83d":1}}'])
async def test_half_a_character_in_what_is_counted_is_refused(google: Gate, origin: Origin, body: bytes) -> None:
    reply = await call(google, b"/v1beta/models/own:countTokens", [(b"x-goog-api-key", google.key)], body)
    assert (reply.status, error_in(reply)["status"], origin.seen) == (400, "INVALID_ARGUMENT", [])


@pytest.mark.parametrize("query", [b"?alt=sse", b""])
async def test_a_stream_of_its_format_is_asked_for_as_events(google: Gate, origin: Origin, query: bytes) -> None:
    event = b"data: " + json.dumps(ANSWER).encode() + b"\r\n\r\n"
    done = b"data: [DONE]\n\n"
    origin.scripts = [streaming(event, event, done), streaming(b"data: {}\n\n", event[:20])]
    reply = await ask(google, "own", "streamGenerateContent", query=query)
    assert origin.seen[0].target == b"/v1beta/models/gemini-3-pro:streamGenerateContent?alt=sse"
    assert reply.body == event * 2 + done if query else json.loads(reply.body) == [ANSWER, ANSWER]


async def test_output_is_estimated_of_an_answer_whose_upstream_counts_none(google: Gate, origin: Origin) -> None:
    candidate = {"content": {"parts": [{"text": "word " * 800}]}, "finishReason": "STOP"}
    origin.scripts = [json_answer(json.dumps({"candidates": [candidate]}).encode())]
    assert (await ask(google, "own")).status == 200
    usage = (await google.records.last()).usage
    assert (usage.output, usage.is_estimated) == (1000, True)


@pytest.mark.parametrize("asked", ["generateContent", "streamGenerateContent", "streamGenerateContent?alt=sse"])
async def test_an_image_passes_whole_and_its_tokens_count(google: Gate, origin: Origin, asked: str) -> None:
    drawn = {"inlineData": {"mimeType": "image/png", "data": "A" * 2_000_000}}
    answer = {
        "candidates": [{"content": {"parts": [drawn]}, "finishReason": "STOP"}],
        "usageMetadata": {"promptTokenCount": 100, "candidatesTokenCount": 1290},
    }
    content = json.dumps(answer).encode()
    is_stream = asked.startswith("stream")
    origin.scripts = [streaming(b"data: %b\r\n\r\n" % content) if is_stream else json_answer(content)]
    method, _, query = asked.partition("?")
    reply = await ask(google, "own", method, query=b"?" + query.encode())
    said = reply.body.strip().removeprefix(b"data: ")
    assert json.loads(said) == ([answer] if is_stream and not query else answer)
    record = await google.records.last()
    assert (record.usage.input, record.usage.output, record.error) == (100, 1290, None)


async def test_failover_goes_on_from_its_format_to_another(google: Gate, origin: Origin, native: Origin) -> None:
    error = b'data: {"error":{"code":503,"status":"UNAVAILABLE","message":"x"}}\n\n'
    origin.scripts, native.scripts = [streaming(error)], [streaming(*TRANSCRIPT)]
    reply = await ask(google, "own", "streamGenerateContent", query=b"?alt=sse")
    assert text_of(*chunks(reply.body)) == "It is 🌧️"
    assert (await google.records.last()).translated == "gemini-to-anthropic"


async def test_signatures_of_translated_answers_do_not_go_to_google(google: Gate, origin: Origin) -> None:
    """It refuses what it didn't write, and a call without any signature; its own go back as they came."""
    foreign = sealed_thoughts("native/claude", [messages.ThinkingContent(thinking="hm", signature="s")])
    parts = [{"text": "x", "thought_signature": foreign}, {**SIGNED, "thoughtSignature": foreign}, SIGNED]
    contents = [*HELLO["contents"], {"role": "model", "parts": parts}]
    await ask(google, "own", contents=contents)
    sent = json.loads(origin.seen[0].body)["contents"][1]["parts"]
    assert sent == [{"text": "x"}, {**SIGNED, "thoughtSignature": "skip_thought_signature_validator"}, SIGNED]


async def test_signatures_that_google_refuses_are_sent_no_second_time(google: Gate, origin: Origin) -> None:
    refusal = b'{"error":{"code":400,"message":"Corrupted thought signature.","status":"INVALID_ARGUMENT"}}'
    origin.scripts = [json_answer(refusal, status=400), json_answer(json.dumps(ANSWER).encode())]
    contents = [*HELLO["contents"], {"role": "model", "parts": [SIGNED]}]
    assert (await ask(google, "own", contents=contents)).status == 200
    first, second = (json.loads(seen.body)["contents"][1]["parts"][0]["thoughtSignature"] for seen in origin.seen)
    assert (first, second) == ("c2lnbmVk", "skip_thought_signature_validator")
