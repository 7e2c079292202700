"""The real Claude Code whose model is mapped to Chat Completions, Gemini or Vertex AI, there also to Claude."""

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any, Final

import pytest

from e2e.claude import Claude
from e2e.parties import SandboxProcess, Server, end, running, tokenferry, write_config
from e2e.recorder import closed_door
from tokenferry.settings import Home

pytestmark = pytest.mark.e2e

COMMANDS: Final = ("echo alpha-$((1+1))", "echo beta-$((2+2))")
QUIRKS: Final = {"same_index": True, "ids": False, "usage": "each", "finish": "stop", "comments": True}
CONFIG: Final = """
[[providers]]
name = "chat"
base_url = "{url}/v1"
wire_format = "openai"

[[providers]]
name = "google"
base_url = "{url}/v1beta"
wire_format = "gemini"

[[providers]]
name = "vertex"
base_url = "{url}/v1/projects/p/locations/eu"
wire_format = "vertex"

[[providers]]
name = "hosted"
base_url = "{url}/v1/projects/p/locations/eu"
wire_format = "vertex-anthropic"

[providers.token_exchange]
url = "{url}/copilot_internal/v2/token"
method = "GET"
headers = {{ authorization = "token {{token}}" }}
token_field = "token"
expiry_field = "expires_at"

[[models]]
name = "claude-opus-4-5"
mappings = [{{ provider = "hosted", actual_model = "claude-opus-4-5@20251101" }}]

[[models]]
name = "fast"
mappings = [{{ provider = "chat", actual_model = "gpt-oss" }}]

[[models]]
name = "pro"
mappings = [{{ provider = "google", actual_model = "gemini-3-pro" }}]

[[models]]
name = "flash"
mappings = [{{ provider = "vertex", actual_model = "gemini-2.5-flash" }}]
"""


@pytest.fixture
def gateway(home: Home, sandbox: SandboxProcess, tmp_path: Path) -> Iterator[Server]:
    write_config(home, CONFIG.format(url=sandbox.url))
    for name, provider in (("dave", "chat"), ("bob", "google"), ("alice", "vertex")):
        added = tokenferry("account", "add", name, "--provider", provider, stdin=sandbox.api_key(name))
        assert added.code == 0, added.err
    added = tokenferry("account", "add", "carol", "--provider", "hosted", stdin=sandbox.long_lived("carol"))
    assert added.code == 0, added.err
    with running("serve", tmp_path) as server:
        yield server


@pytest.mark.parametrize(
    ("model", "faults"),
    [
        ("fast", {}),
        ("fast", {"kind": "chat_quirks", "times": 100, **QUIRKS}),
        ("pro", {"kind": "gemini_quirks", "finish": "MALFORMED_FUNCTION_CALL"}),
        ("flash", {"kind": "gemini_quirks", "finish": "STOP"}),
        ("claude-opus-4-5", {}),
    ],
    ids=["chat", "quirks", "malformed", "empty", "hosted"],
)
def test_a_session_with_parallel_tools_runs_to_its_end(
    gateway: Server, sandbox: SandboxProcess, tmp_path: Path, model: str, faults: dict[str, Any]
) -> None:
    """An answer of Gemini that is malformed or empty is asked for once more, and the client sees nothing of it."""
    calls = [{"name": "Bash", "input": {"command": command, "description": "says it"}} for command in COMMANDS]
    sandbox.settings(answer={"calls": calls, "thinking": True})
    if faults:
        sandbox.fault(**faults)
    person = tmp_path / "claude"
    person.mkdir(mode=0o700)
    given = {"ANTHROPIC_BASE_URL": gateway.url, "ANTHROPIC_AUTH_TOKEN": tokenferry("token", "--gateway").out.strip()}
    given |= {"ANTHROPIC_DEFAULT_HAIKU_MODEL": model}
    asked = ("-p", "run both", "--model", model, "--output-format", "json", "--allowedTools", "Bash")
    with closed_door() as door:
        outcome = end(Claude(person, door.url).begin(*asked, **given))
    assert outcome.code == 0, outcome
    told = json.loads(outcome.out)
    said = told["result"].removeprefix("Hello from the sandbox, your tools said: ").removesuffix(" ⛴")
    results = said.partition("\n\n<system-reminder>")[0]  # with a model that it knows it tells how much is left
    assert sorted(results.split(", ")) == ["alpha-2", "beta-4"]
    assert (told["is_error"], told["stop_reason"]) == (False, "end_turn")
    assert told["usage"]["input_tokens"] > 0
    assert told["usage"]["output_tokens"] > 0
