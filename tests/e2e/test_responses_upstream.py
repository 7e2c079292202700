"""The real Claude Code whose model is mapped to an upstream of Responses, which wants its reasoning back."""

import json
from collections.abc import Iterator
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler
from pathlib import Path
from typing import Any, Final

import pytest

from e2e.claude import Claude
from e2e.parties import Server, end, running, tokenferry, write_config
from e2e.recorder import closed_door, serving
from tokenferry.settings import Home
from wire.rig import named

pytestmark = pytest.mark.e2e

COMMANDS: Final = ("echo alpha-$((1+1))", "echo beta-$((2+2))")
ENCRYPTED: Final = "gAAAAencrypted"
USAGE: Final = {"input_tokens": 100, "input_tokens_details": {"cached_tokens": 60}, "output_tokens": 20}
CONFIG: Final = """
[[providers]]
name = "responses"
base_url = "{url}/v1"
wire_format = "openai-responses"

[[models]]
name = "fast"

[[models.mappings]]
provider = "responses"
actual_model = "gpt-5.5"
"""


@dataclass
class ResponsesUpstream:
    """Has both commands run after it reasoned, then repeats their results if its reasoning came back."""

    url: str = ""
    asked: list[dict[str, Any]] = field(default_factory=list)

    def answer(self, body: dict[str, Any]) -> Iterator[bytes]:
        self.asked.append(body)
        given = body["input"]
        results = sorted(str(item["output"]).strip() for item in given if item["type"] == "function_call_output")
        yield named("response.created", response={"id": f"resp_{len(self.asked)}", "model": "gpt-5.5"})
        if results:
            kept = [item["type"] for item in given if item.get("encrypted_content") == ENCRYPTED]
            said = f"They said: {', '.join(results)}" if kept == ["reasoning"] else "My reasoning is lost."
        else:
            said = "hello"
        if results or not body.get("tools"):
            yield named("response.output_text.delta", output_index=0, item_id="msg_1", content_index=0, delta=said)
            yield named("response.output_item.done", output_index=0, item={"type": "message", "id": "msg_1"})
        else:
            reasoning = {"type": "reasoning", "id": "rs_1", "summary": [], "encrypted_content": ENCRYPTED}
            yield named("response.output_item.done", output_index=0, item=reasoning)
            yield from self.calls()
        yield named("response.completed", response={"status": "completed", "usage": USAGE})

    def calls(self) -> Iterator[bytes]:
        """Two calls whose fragments alternate."""
        items = [
            {"type": "function_call", "id": f"fc_{index}", "call_id": f"call_{index}", "name": "Bash", "arguments": ""}
            for index in (1, 2)
        ]
        arguments = [json.dumps({"command": command, "description": "says it"}) for command in COMMANDS]
        for index, item in enumerate(items, 1):
            yield named("response.output_item.added", output_index=index, item=item)
        for at in range(0, max(map(len, arguments)), 7):
            for index, text in enumerate(arguments, 1):
                if piece := text[at : at + 7]:
                    yield named("response.function_call_arguments.delta", output_index=index, delta=piece)
        for index, item in enumerate(items, 1):
            whole = {**item, "arguments": arguments[index - 1]}
            yield named("response.output_item.done", output_index=index, item=whole)


@pytest.fixture
def upstream() -> Iterator[ResponsesUpstream]:
    known = ResponsesUpstream()

    class Handler(BaseHTTPRequestHandler):
        def do_POST(self) -> None:
            body = json.loads(self.rfile.read(int(self.headers["content-length"])))
            self.send_response(200 if self.path == "/v1/responses" else 404)
            self.send_header("content-type", "text/event-stream")
            self.end_headers()
            for event in known.answer(body):
                self.wfile.write(event)

        def log_message(self, *_: object) -> None:
            pass

    with serving(Handler) as known.url:
        yield known


@pytest.fixture
def gateway(home: Home, upstream: ResponsesUpstream, tmp_path: Path) -> Iterator[Server]:
    write_config(home, CONFIG.format(url=upstream.url))
    key = "sk-proj-" + "a" * 40
    outcome = tokenferry("account", "add", "one", "--provider", "responses", "--kind", "api-key", stdin=key)
    assert outcome.code == 0, outcome.err
    with running("serve", tmp_path) as server:
        yield server


def test_a_session_with_parallel_tools_runs_to_its_end(
    gateway: Server, upstream: ResponsesUpstream, tmp_path: Path
) -> None:
    person = tmp_path / "claude"
    person.mkdir(mode=0o700)
    given = {"ANTHROPIC_BASE_URL": gateway.url, "ANTHROPIC_AUTH_TOKEN": tokenferry("token", "--gateway").out.strip()}
    given |= {"ANTHROPIC_DEFAULT_HAIKU_MODEL": "fast", "MAX_THINKING_TOKENS": "4000"}
    asked = ("-p", "run both", "--model", "fast", "--output-format", "json", "--allowedTools", "Bash")
    with closed_door() as door:
        outcome = end(Claude(person, door.url).begin(*asked, **given))
    assert outcome.code == 0, outcome
    told = json.loads(outcome.out)
    assert told["result"] == "They said: alpha-2, beta-4"
    assert (told["is_error"], told["stop_reason"]) == (False, "end_turn")
    assert (told["usage"]["input_tokens"], told["usage"]["cache_read_input_tokens"]) == (80, 120)
    (main, *_) = (body for body in upstream.asked if body.get("tools"))
    assert main["include"] == ["reasoning.encrypted_content"]
