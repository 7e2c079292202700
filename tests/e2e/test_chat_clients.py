"""OpenAI's SDK and the Vercel AI SDK, which speak Chat Completions, before upstreams of both formats."""

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any, Final

import httpx2
import openai
import pytest
from openai.types.chat import (
    ChatCompletionMessageFunctionToolCallParam,
    ChatCompletionMessageParam,
    ChatCompletionToolParam,
)

from e2e.conftest import AddLogin
from e2e.parties import (
    CHILDREN,
    MODULES,
    SandboxProcess,
    Server,
    begin,
    end,
    lacking,
    program,
    running,
    tokenferry,
    write_config,
)
from tokenferry.settings import Home

pytestmark = pytest.mark.e2e

ANSWER: Final = "Hello from the sandbox, your tools said: {}, {} ⛴"
NATIVE, CHAT, GEMINI = "claude-sonnet-5-5", "chat/gpt-4o", "google/gemini-3-pro"
"""Of the default provider, which speaks the Messages API, of one that speaks Chat Completions, and of Google's."""
CALLS: Final = [{"name": "weather", "input": {"city": "Zürich"}}, {"name": "time", "input": {"city": "Bern"}}]
TOOLS: Final[list[ChatCompletionToolParam]] = [
    {
        "type": "function",
        "function": {
            "name": name,
            "parameters": {"type": "object", "properties": {"city": {"type": "string"}}, "required": ["city"]},
        },
    }
    for name in ("weather", "time")
]
CONFIG: Final = """
[[providers]]
name = "sandbox"
base_url = "{url}"

[[providers]]
name = "chat"
base_url = "{url}/v1"
wire_format = "openai"

[[providers]]
name = "google"
base_url = "{url}/v1beta"
wire_format = "gemini"
"""


@pytest.fixture
def gateway(home: Home, sandbox: SandboxProcess, add_login: AddLogin, tmp_path: Path) -> Iterator[Server]:
    add_login("alice")
    write_config(home, CONFIG.format(url=sandbox.url))
    for name, provider in (("dave", "chat"), ("bob", "google")):
        asked = ("account", "add", name, "--provider", provider, "--kind", "api-key")
        outcome = tokenferry(*asked, stdin=sandbox.api_key(name))
        assert outcome.code == 0, outcome.err
        assert f"ask for {provider}/MODEL" in outcome.out
    sandbox.settings(answer={"calls": CALLS})
    with running("serve", tmp_path) as server:
        yield server


@pytest.fixture
def client(gateway: Server, key: str) -> Iterator[openai.OpenAI]:
    with (
        httpx2.Client(trust_env=False) as http,
        openai.OpenAI(base_url=f"{gateway.url}/v1", api_key=key, max_retries=0, http_client=http) as client,
    ):
        yield client


def again(call: Any) -> ChatCompletionMessageFunctionToolCallParam:
    """A call as the next request repeats it."""
    known = call.function
    return {"id": call.id, "type": "function", "function": {"name": known.name, "arguments": known.arguments}}


@pytest.mark.parametrize("model", [NATIVE, CHAT, GEMINI])
@pytest.mark.parametrize("is_stream", [False, True])
def test_openais_sdk_has_tools_called_in_parallel(
    client: openai.OpenAI, sandbox: SandboxProcess, model: str, *, is_stream: bool
) -> None:
    said: list[ChatCompletionMessageParam] = [{"role": "system", "content": "be brief"}]
    said.append({"role": "user", "content": "hi"})
    for is_last in (False, True):
        if is_stream:
            options = {"stream_options": {"include_usage": True}}
            with client.chat.completions.stream(model=model, messages=said, tools=TOOLS, **options) as stream:  # type: ignore[arg-type]
                completion = stream.get_final_completion()
        else:
            completion = client.chat.completions.create(model=model, messages=said, tools=TOOLS)  # type: ignore[assignment]
        choice = completion.choices[0]
        assert completion.usage is not None
        assert completion.usage.prompt_tokens > 0
        assert completion.usage.total_tokens == completion.usage.prompt_tokens + completion.usage.completion_tokens
        if is_last:
            assert choice.message.content in {ANSWER.format("weather?", "time?"), ANSWER.format("time?", "weather?")}
            assert choice.finish_reason == "stop"
        else:
            assert choice.finish_reason == "tool_calls"
            calls = choice.message.tool_calls or []
            made = [(one.function.name, json.loads(one.function.arguments)) for one in calls]
            assert made == [(one["name"], one["input"]) for one in CALLS]
            said.append({"role": "assistant", "tool_calls": [again(one) for one in calls]})
            said += [
                {"role": "tool", "tool_call_id": one.id, "content": f"{one.function.name}?"} for one in reversed(calls)
            ]
    paths = {NATIVE: "/v1/messages", CHAT: "/v1/chat/completions", GEMINI: "/v1beta/models/gemini-3-pro"}
    assert [one["status"] for one in sandbox.requests() if one["path"].startswith(paths[model])] == [200, 200]


def test_openais_sdk_reads_models_and_errors(client: openai.OpenAI, sandbox: SandboxProcess) -> None:
    assert [model.object for model in client.models.list()][:1] == ["model"]
    with pytest.raises(openai.NotFoundError):
        client.chat.completions.create(model="nowhere", messages=[{"role": "user", "content": "hi"}])
    sandbox.fault("status", status=429, path="/v1/messages", headers={"retry-after": "60"}, type="rate_limit_error")
    with pytest.raises(openai.RateLimitError) as limited:
        client.chat.completions.create(model=NATIVE, messages=[{"role": "user", "content": "hi"}])
    assert limited.value.type == "rate_limit_error"
    bad = client.with_options(api_key="tfk_wrong")
    with pytest.raises(openai.AuthenticationError) as refused:
        bad.chat.completions.create(model=NATIVE, messages=[{"role": "user", "content": "hi"}])
    assert refused.value.code == "invalid_api_key"


@pytest.mark.parametrize("model", [NATIVE, CHAT])
def test_a_stream_that_breaks_off_raises_in_openais_sdk(
    client: openai.OpenAI, sandbox: SandboxProcess, model: str
) -> None:
    sandbox.settings(answer={"text": "one two three four five six"})
    sandbox.fault("truncate", path="/v1/", events=5, cut=True)
    with pytest.raises(openai.APIError):
        for _ in client.chat.completions.create(model=model, messages=[{"role": "user", "content": "hi"}], stream=True):
            pass


@pytest.mark.parametrize("model", [NATIVE, CHAT])
def test_the_vercel_ai_sdk_has_tools_called_in_parallel(gateway: Server, key: str, model: str) -> None:
    if not (MODULES / "@ai-sdk/openai-compatible").is_dir():
        lacking("the npm package @ai-sdk/openai-compatible")
    outcome = end(begin(program("node"), str(CHILDREN / "ai_sdk.mjs"), f"{gateway.url}/v1", key, model))
    assert outcome.code == 0, outcome
    told = json.loads(outcome.out)
    assert sorted(told["called"]) == ["noon Bern", "noon Bern", "sunny Zürich", "sunny Zürich"]
    for text, finish, calls, tokens in (told["plain"], told["streamed"]):
        assert (text, finish, calls) == (ANSWER.format("sunny of Zürich", "noon of Bern"), "stop", 2)
        assert tokens > 0
    assert "error" not in told["parts"]
    assert told["told"] == [404, True]
