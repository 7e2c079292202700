"""The real Claude Code, whose session goes from Anthropic's format to Chat Completions or to Gemini's, and back."""

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any, Final

import pytest

from e2e.claude import Claude
from e2e.conftest import AddLogin
from e2e.parties import SandboxProcess, Server, end, running, tokenferry, write_config
from e2e.recorder import closed_door
from tokenferry.settings import Home

pytestmark = pytest.mark.e2e

COMMANDS: Final = ("echo alpha-$((1+1))", "echo beta-$((2+2))")
ELSEWHERE: Final = {"fast": "/v1/chat/completions", "other": "/v1beta/models/gemini-3-pro:streamGenerateContent"}
"""Where a model goes when Anthropic's is limited."""
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

[[models]]
name = "fast"
mappings = [
    {{ provider = "sandbox", actual_model = "claude-sonnet-5-5" }},
    {{ provider = "chat", actual_model = "gpt-4o" }},
]

[[models]]
name = "other"
mappings = [
    {{ provider = "sandbox", actual_model = "claude-sonnet-5-5" }},
    {{ provider = "google", actual_model = "gemini-3-pro" }},
]
"""


@pytest.fixture
def gateway(home: Home, sandbox: SandboxProcess, add_login: AddLogin, tmp_path: Path) -> Iterator[Server]:
    add_login("alice", expires_in=28_800)
    write_config(home, CONFIG.format(url=sandbox.url))
    for name, provider in (("dave", "chat"), ("bob", "google")):
        given = sandbox.api_key(name)
        outcome = tokenferry("account", "add", name, "--provider", provider, "--kind", "api-key", stdin=given)
        assert outcome.code == 0, outcome.err
    calls = [{"name": "Bash", "input": {"command": command, "description": "says it"}} for command in COMMANDS]
    sandbox.settings(answer={"calls": calls, "thinking": True})
    with running("serve", tmp_path) as server:
        yield server


@pytest.mark.parametrize("model", ELSEWHERE)
def test_a_session_goes_on_at_an_upstream_of_another_format_and_back(
    gateway: Server, sandbox: SandboxProcess, key: str, tmp_path: Path, model: str
) -> None:
    """Limited between a call and its results, then well again: no upstream is sent what it doesn't take."""
    person, path = tmp_path / "claude", ELSEWHERE[model]
    person.mkdir(mode=0o700)
    given = {"ANTHROPIC_BASE_URL": gateway.url, "ANTHROPIC_AUTH_TOKEN": key, "ANTHROPIC_DEFAULT_HAIKU_MODEL": model}

    def ask(*words: str) -> dict[str, Any]:
        asked = ("-p", *words, "--model", model, "--output-format", "json", "--allowedTools", "Bash")
        with closed_door() as door:
            outcome = end(Claude(person, door.url).begin(*asked, **given))
        assert outcome.code == 0, outcome
        told: dict[str, Any] = json.loads(outcome.out)
        assert not told["is_error"], told
        return told

    limited = {"status": 429, "type": "rate_limit_error", "headers": {"retry-after": "3600"}}
    sandbox.fault("status", path="/v1/messages", account="alice", after=1, times=1, **limited)
    first = ask("run both")
    assert [one["status"] for one in sandbox.requests("/v1/messages")][:2] == [200, 429]
    (elsewhere,) = sandbox.requests(path)
    assert elsewhere["status"] == 200
    second = ask("go on", "--resume", first["session_id"])
    assert second["session_id"] == first["session_id"]
    statuses = [one["status"] for one in sandbox.requests(path)]
    assert statuses == [200, 200, 200], "its tools were called there, too"
    assert tokenferry("cooldown", "clear", "--all").code == 0
    sandbox.settings(answer={"calls": [], "thinking": True})
    third = ask("and back", "--resume", first["session_id"])
    assert third["result"] == "Hello from the sandbox, you said: and back ⛴"
    assert [one["status"] for one in sandbox.requests("/v1/messages")] == [200, 429, 200]
    assert len(sandbox.requests(path)) == 3
