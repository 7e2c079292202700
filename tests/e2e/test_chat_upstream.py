"""The real Claude Code whose model is mapped to an upstream of Chat Completions."""

import json
import threading
from collections.abc import Iterator
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any, Final

import pytest

from e2e.claude import Claude
from e2e.parties import Server, end, running, tokenferry, write_config
from e2e.recorder import closed_door
from tokenferry.settings import Home
from wire.rig import DONE, USAGE, chunk, fragment

pytestmark = pytest.mark.e2e

COMMANDS: Final = ("echo alpha-$((1+1))", "echo beta-$((2+2))")
CONFIG: Final = """
[[providers]]
name = "chat"
base_url = "{url}/openai/v1"
wire_format = "openai"

[[models]]
name = "fast"

[[models.mappings]]
provider = "chat"
actual_model = "gpt"
"""


def calls() -> Iterator[bytes]:
    """Two calls whose fragments alternate, ended by `stop`, as some upstreams do."""
    yield chunk({"role": "assistant", "content": None})
    yield chunk({"reasoning_content": "two at once"})
    for index in range(2):
        yield chunk(fragment(index, id=f"call_{index}", name="Bash", arguments=""))
    arguments = [json.dumps({"command": command, "description": "says it"}) for command in COMMANDS]
    for at in range(0, max(map(len, arguments)), 7):
        for index, text in enumerate(arguments):
            if piece := text[at : at + 7]:
                yield chunk(fragment(index, arguments=piece))
    yield chunk(finish="stop")


@dataclass
class ChatUpstream:
    """Has both commands run, then repeats their results."""

    url: str = ""
    asked: list[dict[str, Any]] = field(default_factory=list)

    def answer(self, body: dict[str, Any]) -> Iterator[bytes]:
        self.asked.append(body)
        results = [str(message["content"]) for message in body["messages"] if message["role"] == "tool"]
        if not results and body.get("tools"):
            yield from calls()
        else:
            yield chunk({"role": "assistant", "content": ""})
            yield chunk({"content": f"They said: {', '.join(sorted(results))}"})
            yield chunk(finish="stop")
        yield chunk(usage=USAGE, choices=[])
        yield DONE


@pytest.fixture
def upstream() -> Iterator[ChatUpstream]:
    known = ChatUpstream()

    class Handler(BaseHTTPRequestHandler):
        def do_POST(self) -> None:
            body = json.loads(self.rfile.read(int(self.headers["content-length"])))
            self.send_response(200 if self.path == "/openai/v1/chat/completions" else 404)
            self.send_header("content-type", "text/event-stream")
            self.end_headers()
            for event in known.answer(body):
                self.wfile.write(event)

        def log_message(self, *_: object) -> None:
            pass

    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    known.url = f"http://127.0.0.1:{server.server_port}"
    thread = threading.Thread(target=server.serve_forever)
    thread.start()
    yield known
    server.shutdown()
    thread.join()
    server.server_close()


@pytest.fixture
def gateway(home: Home, upstream: ChatUpstream, tmp_path: Path) -> Iterator[Server]:
    write_config(home, CONFIG.format(url=upstream.url))
    outcome = tokenferry(
        "account", "add", "one", "--provider", "chat", "--kind", "api-key", stdin="sk-proj-" + "a" * 40
    )
    assert outcome.code == 0, outcome.err
    with running("serve", tmp_path) as server:
        yield server


def test_a_session_with_parallel_tools_runs_to_its_end(gateway: Server, upstream: ChatUpstream, tmp_path: Path) -> None:
    person = tmp_path / "claude"
    person.mkdir(mode=0o700)
    given = {"ANTHROPIC_BASE_URL": gateway.url, "ANTHROPIC_AUTH_TOKEN": tokenferry("token", "--gateway").out.strip()}
    given |= {"ANTHROPIC_DEFAULT_HAIKU_MODEL": "fast"}
    asked = ("-p", "run both", "--model", "fast", "--output-format", "json", "--allowedTools", "Bash")
    with closed_door() as door:
        outcome = end(Claude(person, door.url).begin(*asked, **given))
    assert outcome.code == 0, outcome
    told = json.loads(outcome.out)
    assert told["result"] == "They said: alpha-2, beta-4"
    assert (told["is_error"], told["stop_reason"]) == (False, "end_turn")
    assert (told["usage"]["input_tokens"], told["usage"]["cache_read_input_tokens"]) == (80, 120)
    last = upstream.asked[-1]
    assert [one["role"] for one in last["messages"]][-3:] == ["assistant", "tool", "tool"]
    assert "reasoning_content" not in json.dumps(last), "it goes back only where that is wanted"
    assert "metadata" not in last
