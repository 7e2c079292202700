"""Google's own clients: its SDKs for Python and JavaScript, and the Gemini CLI, at upstreams of other formats."""

import asyncio
import gc
import json
import os
import runpy
import threading
import warnings
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

import tokenferry
from e2e.parties import (
    CHILDREN,
    COMMAND,
    MODULES,
    Outcome,
    SandboxProcess,
    Server,
    begin,
    end,
    lacking,
    program,
    write_config,
)
from e2e.parties import tokenferry as command
from e2e.recorder import closed_door
from tokenferry.settings import Home
from tokenferry.tools import Registry

pytestmark = pytest.mark.e2e

genai = pytest.importorskip("google.genai")
TYPING = Path(__file__).parents[1] / "typing" / "api.py"
TABLES = """
[[providers]]
name = "sandbox"
base_url = "{url}"

[[providers]]
name = "chat"
provider_type = "openai"
base_url = "{url}/v1"

[[models]]
name = "gemini-3-pro"
mappings = [{{ provider = "sandbox", actual_model = "claude-opus-4-5" }}]

[[models]]
name = "by-chat"
mappings = [{{ provider = "chat", actual_model = "gpt-oss" }}]
"""
PATHS = {"gemini-3-pro": "/v1/messages", "by-chat": "/v1/chat/completions"}
"""Where each model's upstream is asked."""


@pytest.fixture(autouse=True)
def _home(home: Home, sandbox: SandboxProcess, monkeypatch: pytest.MonkeyPatch) -> None:
    """Two accounts, and an environment that would lead the SDK elsewhere."""
    write_config(home, TABLES.format(url=sandbox.url))
    monkeypatch.setenv("TOKENFERRY_HOME", os.fspath(home.path))
    monkeypatch.setenv("GOOGLE_GENAI_USE_VERTEXAI", "true")
    monkeypatch.setenv("GOOGLE_API_KEY", "AIza-of-the-programs-own")
    for name, provider, owner in (("dave", "sandbox", "dave"), ("other", "chat", "carol")):
        added = command("account", "add", name, "--provider", provider, stdin=sandbox.api_key(owner))
        assert added.code == 0, added.err


@pytest.fixture(params=PATHS)
def model(request: pytest.FixtureRequest) -> str:
    return str(request.param)


@pytest.fixture
def client() -> Iterator[Any]:
    """What it leaves open is seen at its end; what earlier tests left is not its own."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", ResourceWarning)
        gc.collect()
    yield tokenferry.genai()
    gc.collect()


def look(city: str) -> str:
    """Look out of a window."""
    return f"it rains in {city}"


def test_the_sdk_gets_answers_and_streams_whatever_the_environment_holds(client: Any, model: str) -> None:
    answer = client.models.generate_content(model=model, contents="Hello")
    assert "you said: Hello" in answer.text
    assert answer.usage_metadata.prompt_token_count > 0
    assert answer.candidates[0].finish_reason == "STOP"
    chunks = list(client.models.generate_content_stream(model=model, contents="Hello"))
    assert "you said: Hello" in "".join(chunk.text or "" for chunk in chunks)
    assert chunks[-1].usage_metadata.candidates_token_count > 0
    assert client.models.count_tokens(model=model, contents="Hello there").total_tokens > 0


async def _asked(client: Any, model: str) -> str:
    answer = await client.aio.models.generate_content(model=model, contents="Hello")
    stream = await client.aio.models.generate_content_stream(model=model, contents="Hello")
    return str(answer.text) + "".join([chunk.text or "" async for chunk in stream])


def test_its_asynchronous_face_does_so_too(client: Any, model: str) -> None:
    assert asyncio.run(_asked(client, model)).count("you said: Hello") == 2


def test_a_chat_keeps_what_was_thought_and_called(client: Any, model: str, sandbox: SandboxProcess) -> None:
    """The SDK calls the function itself; what the model thought goes back to it."""
    sandbox.settings(answer={"thinking": True, "calls": [{"name": "look", "input": {"city": "Ulm"}}]})
    types = genai.types
    thinking = types.ThinkingConfig(include_thoughts=True, thinking_budget=2000)
    config = types.GenerateContentConfig(tools=[look], thinking_config=thinking, max_output_tokens=4000)
    chat = client.chats.create(model=model, config=config)
    answer = chat.send_message("How is the weather?")
    kinds = [
        kind
        for content in chat.get_history()
        for part in content.parts
        for kind in ("function_call", "function_response")
        if getattr(part, kind)
    ]
    assert kinds[:2] == ["function_call", "function_response"]
    assert answer.text
    sandbox.settings(answer={"thinking": True, "calls": []})
    assert chat.send_message("And now?").text
    assert {request["status"] for request in sandbox.requests(PATHS[model])} == {200}


def test_the_registry_of_tools_speaks_with_the_sdk(client: Any, model: str, sandbox: SandboxProcess) -> None:
    registry = Registry()
    registry.tool(look)
    sandbox.settings(answer={"calls": [{"name": "look", "input": {"city": "Ulm"}}]})
    contents: list[Any] = [{"role": "user", "parts": [{"text": "How is the weather?"}]}]
    config = {"tools": registry.gemini()}
    answer = client.models.generate_content(model=model, contents=contents, config=config)
    results = registry.results(answer)
    assert results[0]["parts"][0]["functionResponse"]["response"] == {"output": "it rains in Ulm"}
    sandbox.settings(answer={"calls": []})
    contents += [answer.candidates[0].content, *results]
    assert "it rains in Ulm" in client.models.generate_content(model=model, contents=contents, config=config).text


def test_errors_are_raised_as_the_sdks_own(client: Any, model: str, sandbox: SandboxProcess) -> None:
    with pytest.raises(genai.errors.ClientError, match="cachedContent") as caught:
        client.models.generate_content(model=model, contents="x", config={"cached_content": "cachedContents/1"})
    assert (caught.value.code, caught.value.status) == (400, "INVALID_ARGUMENT")
    sandbox.fault("truncate", events=4, times=0)
    with pytest.raises(genai.errors.APIError):
        list(client.models.generate_content_stream(model=model, contents="Hello " * 50))


def test_models_are_listed_as_the_sdk_reads_them(client: Any) -> None:
    names = [one.name for one in client.models.list()]
    assert names[:2] == ["models/gemini-3-pro", "models/by-chat"]
    assert client.models.get(model="by-chat").name == "models/by-chat"


def test_the_gateways_thread_ends_with_the_client() -> None:
    before = set(threading.enumerate())
    client = tokenferry.genai()
    assert client.models.generate_content(model="by-chat", contents="Hello").text
    (own,) = (one for one in set(threading.enumerate()) - before if one.name == "tokenferry-in-process")
    del client
    gc.collect()
    own.join(10)
    assert not own.is_alive()


def test_what_the_type_checker_takes_runs(sandbox: SandboxProcess) -> None:
    added = command("account", "add", "alice", "--provider", "sandbox", stdin=sandbox.api_key("alice"))
    assert added.code == 0, added.err
    runpy.run_path(str(TYPING))["with_googles_sdk"](sandbox.url)


@pytest.fixture
def person(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The home directory of somebody who has used neither program; the environment leads nowhere else."""
    person = tmp_path / "person"
    (person / "work").mkdir(parents=True)
    monkeypatch.setenv("HOME", str(person))
    for name in ("GOOGLE_GENAI_USE_VERTEXAI", "GOOGLE_API_KEY"):
        monkeypatch.delenv(name)
    return person


def test_googles_sdk_for_javascript_has_tools_called_in_chats(
    gateway: Server, person: Path, key: str, model: str, sandbox: SandboxProcess
) -> None:
    """An answer with an event that it takes for invalid is forgotten by its chat: the results would have no calls."""
    if not (MODULES / "@google/genai").is_dir():
        lacking("the npm package @google/genai")
    calls = [{"name": "weather", "input": {"city": "Ulm"}}, {"name": "time", "input": {"city": "Bern"}}]
    sandbox.settings(answer={"calls": calls, "thinking": True})
    outcome = end(begin(program("node"), str(CHILDREN / "genai.mjs"), gateway.url, key, model))
    assert outcome.code == 0, outcome
    found = json.loads(outcome.out)
    assert found["calls"] == [2, 2]
    assert all("weather of Ulm, time of Bern" in text for text in found["texts"])
    assert found["tokens"] == [True, True]
    assert found["told"] == ["ApiError", 400]
    assert found["models"][:2] == ["models/gemini-3-pro", "models/by-chat"]


def gemini(person: Path, *before: str, model: str) -> Outcome:
    """Have the Gemini CLI look into a file, without a way to the world but for this machine."""
    script = MODULES / "@google/gemini-cli/bundle/gemini.js"
    if not script.is_file():
        lacking("the npm package @google/gemini-cli")
    told = ("--skip-trust", "--approval-mode", "yolo", "--output-format", "json", "-m", model, "-p", "look")
    with closed_door() as door:
        proxies = [f"{name}={door.url}" for name in ("HTTP_PROXY", "HTTPS_PROXY", "http_proxy", "https_proxy")]
        local = ("NO_PROXY=127.0.0.1", "no_proxy=127.0.0.1")
        place = ("-C", str(person / "work"), *proxies, *local)
        return end(begin("/usr/bin/env", *place, *before, program("node"), str(script), *told))


@pytest.mark.parametrize(("model", "by_run"), [("gemini-3-pro", False), ("by-chat", True)], ids=["set up", "run"])
def test_the_gemini_cli_has_its_tools_called(
    gateway: Server, person: Path, sandbox: SandboxProcess, model: str, *, by_run: bool
) -> None:
    note = person / "work" / "note.txt"
    note.write_text("the ferry leaves at nine")
    sandbox.settings(answer={"calls": [{"name": "read_file", "input": {"file_path": str(note)}}], "thinking": True})
    done = command("setup", "gemini-cli", "--yes", "--url", "http://127.0.0.1:9" if by_run else gateway.url)
    assert done.code == 0, done
    outcome = gemini(person, *((COMMAND, "run", "--") if by_run else ()), model=model)
    assert outcome.code == 0, outcome
    assert "the ferry leaves at nine" in json.loads(outcome.out)["response"]
    asked = sandbox.requests(PATHS[model])
    assert len(asked) >= 2
    assert {request["status"] for request in asked} == {200}
    assert command("setup", "gemini-cli", "--undo", "--yes").code == 0
