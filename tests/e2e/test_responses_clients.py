"""The real Codex CLI and OpenAI's SDK, which speak the Responses API, before an upstream of the Messages API."""

import json
from pathlib import Path
from typing import Any, Final

import openai
import pytest
from openai.types.responses import FunctionToolParam

from e2e.conftest import AddLogin
from e2e.parties import COMMAND, MODULES, Outcome, SandboxProcess, Server, begin, end, lacking, tokenferry, write_config
from e2e.recorder import closed_door, recording_relay
from tokenferry.settings import Home

pytestmark = pytest.mark.e2e

ANSWER: Final = "Hello from the sandbox, you said: hi ⛴"
MODEL: Final = "claude-sonnet-5-5"
TOOL: Final[FunctionToolParam] = {
    "type": "function",
    "name": "weather",
    "parameters": {"type": "object", "properties": {"city": {"type": "string"}}},
    "strict": False,
}
COMMANDS: Final = ("echo alpha-$((1+1))", "echo beta-$((2+2))")
OPENAIS_NAME: Final = """
[[models]]
name = "gpt-6.1-sol"

[[models.mappings]]
provider = "sandbox"
actual_model = "claude-sonnet-5-5"
"""


@pytest.fixture
def codex() -> Path:
    path = MODULES / "@openai/codex-linux-x64/vendor/x86_64-unknown-linux-musl/bin/codex"
    if not path.is_file():
        lacking("the npm package @openai/codex-linux-x64")
    return path


@pytest.fixture
def person(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The home directory of somebody who has used neither program."""
    person = tmp_path / "person"
    (person / "work").mkdir(parents=True)
    monkeypatch.setenv("HOME", str(person))
    return person


def ask(person: Path, *command: str, model: str = MODEL) -> Outcome:
    """Let Codex answer "hi", without a way to the world but for this machine."""
    told = (
        "exec",
        "--json",
        "--skip-git-repo-check",
        "-s",
        "danger-full-access",
        "-C",
        str(person / "work"),
        "-m",
        model,
    )
    with closed_door() as door:
        proxies = [f"{name}={door.url}" for name in ("HTTP_PROXY", "HTTPS_PROXY", "http_proxy", "https_proxy")]
        local = ("NO_PROXY=127.0.0.1", "no_proxy=127.0.0.1")
        return end(begin("/usr/bin/env", *proxies, *local, *command, *told, "hi"))


def items(outcome: Outcome, kind: str) -> list[dict[str, Any]]:
    """What Codex has done, of one kind."""
    assert outcome.code == 0, outcome
    events = [json.loads(line) for line in outcome.out.splitlines() if line.startswith("{")]
    assert events[-1]["type"] == "turn.completed", outcome
    assert events[-1]["usage"]["output_tokens"] > 0
    return [event["item"] for event in events if event["type"] == "item.completed" and event["item"]["type"] == kind]


def texts(outcome: Outcome) -> list[str]:
    return [item["text"] for item in items(outcome, "agent_message")]


def test_codex_that_was_set_up_runs_two_tools_at_once_and_goes_on(
    codex: Path, person: Path, gateway: Server, sandbox: SandboxProcess
) -> None:
    calls = [{"name": "exec_command", "input": {"cmd": command}} for command in COMMANDS]
    sandbox.settings(answer={"calls": calls, "thinking": True})
    outcome = tokenferry("setup", "codex", "--yes", "--url", gateway.url)
    assert outcome.code == 0, outcome
    outcome = ask(person, str(codex))
    ran = items(outcome, "command_execution")
    assert sorted(item["aggregated_output"].strip() for item in ran) == ["alpha-2", "beta-4"]
    assert all(word in texts(outcome)[-1] for word in ("your tools said", "alpha-2", "beta-4"))
    assert [request["status"] for request in sandbox.requests("/v1/messages")] == [200, 200]
    assert tokenferry("setup", "codex", "--undo", "--yes").code == 0


def test_codex_that_is_run_finds_a_model_that_it_knows_by_openais_name(
    codex: Path, person: Path, home: Home, sandbox: SandboxProcess, add_login: AddLogin
) -> None:
    """It offers such a model tools of other kinds: in namespaces, amid the conversation, with a text as their input."""
    script = "text('from ' + 'JavaScript')"
    sandbox.settings(answer={"calls": [{"name": "functions__exec", "input": {"input": script}}], "thinking": True})
    add_login("alice")
    with recording_relay(sandbox.url) as relay:
        write_config(home, home.config.read_text().replace(sandbox.url, relay.url) + OPENAIS_NAME)
        outcome = ask(person, COMMAND, "run", "--", str(codex), model="gpt-6.1-sol")
    assert "your tools said: Script completed" in texts(outcome)[-1]
    _, second = relay.messages()
    said, answered = json.loads(second.body)["messages"][-2:]
    assert said["content"][0]["signature"], "what Claude thought comes back to it"
    call, result = said["content"][-1], answered["content"][-1]
    assert (call["name"], call["input"]) == ("functions__exec", {"input": script})
    assert "from JavaScript" in json.dumps(result["content"])


def test_codex_shows_the_error_of_an_upstream(
    codex: Path, person: Path, gateway: Server, sandbox: SandboxProcess
) -> None:
    sandbox.fault("status", path="/v1/messages", status=400, message="not like this")
    tokenferry("setup", "codex", "--yes", "--url", gateway.url)
    outcome = ask(person, str(codex))
    assert outcome.code != 0
    assert "turn.failed" in outcome.out
    assert "not like this" in outcome.out
    assert len(sandbox.requests("/v1/messages")) == 1


def test_openais_sdk(gateway: Server, key: str, sandbox: SandboxProcess) -> None:
    with openai.OpenAI(base_url=f"{gateway.url}/v1", api_key=key, max_retries=0) as client:
        answer = client.responses.create(model=MODEL, input="hi", instructions="Be brief.")
        assert (answer.output_text, answer.status) == (ANSWER, "completed")
        assert answer.usage is not None
        assert answer.usage.total_tokens > 0
        with client.responses.stream(model=MODEL, input="hi") as stream:
            kinds = [event.type for event in stream]
            assert stream.get_final_response().output_text == ANSWER
        assert (kinds[0], kinds[-1]) == ("response.created", "response.completed")
        called = client.responses.create(model=MODEL, input="hi", tools=[TOOL], tool_choice="required")
        (call,) = (item for item in called.output if item.type == "function_call")
        result = {"type": "function_call_output", "call_id": call.call_id, "output": "rain"}
        history: Any = [{"role": "user", "content": "hi"}, *called.output, result]
        assert "your tools said: rain" in client.responses.create(model=MODEL, input=history, tools=[TOOL]).output_text
        with pytest.raises(openai.BadRequestError, match="previous_response_id"):
            client.responses.create(model=MODEL, input="hi", previous_response_id="resp_1")
