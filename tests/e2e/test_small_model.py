"""A real model behind llama.cpp, which speaks both formats: its own Messages against ours over its Chat Completions."""

import json
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any, Final

import httpx2
import pytest

from e2e.conftest import Tell
from e2e.parties import Server, running, tokenferry, write_config
from tokenferry.settings import Home
from wire.rig import events, message

pytestmark = pytest.mark.model

CHILD: Final = Path(__file__).parent / "children" / "small_model.py"
CONFIG: Final = """
[[providers]]
name = "here"
provider_type = "llama.cpp"
base_url = "{url}/v1"
wire_format = "openai"

[[models]]
name = "small"
mappings = [{{ provider = "here", actual_model = "smollm2" }}]
"""
PLAIN: Final = {
    "model": "small",
    "max_tokens": 12,
    "temperature": 0,
    "messages": [{"role": "user", "content": "What is the capital of France?"}],
}
TALK: Final = [
    {"role": "user", "content": [{"type": "text", "text": "My name is Ada."}]},
    {"role": "assistant", "content": "Hello Ada."},
    {"role": "user", "content": [{"type": "text", "text": "What is my name?"}]},
]
LOOKED: Final = [
    {"role": "user", "content": "How is the weather in Köln?"},
    {
        "role": "assistant",
        "content": [{"type": "tool_use", "id": "toolu_1", "name": "weather", "input": {"city": "Köln"}}],
    },
    {"role": "user", "content": [{"type": "tool_result", "tool_use_id": "toolu_1", "content": "It rains."}]},
]
WEATHER: Final = {
    "name": "weather",
    "description": "Says how the weather is.",
    "input_schema": {"type": "object", "properties": {"city": {"type": "string"}}, "required": ["city"]},
}
ASKED: Final[dict[str, dict[str, Any]]] = {
    "plain": {},
    "system": {"system": "You answer with one word."},
    "turns": {"messages": TALK},
    "until it ends": {"max_tokens": 100, "messages": [{"role": "user", "content": "Say hi."}]},
    "a stop sequence": {"stop_sequences": ["is", ","], "max_tokens": 60},
    "one token": {"max_tokens": 1},
    "top k": {"top_k": 1, "temperature": 1},
    "tools": {"tools": [WEATHER]},
    "a result": {"tools": [WEATHER], "messages": LOOKED},
}


@pytest.fixture(scope="module")
def upstream() -> Iterator[str]:
    with subprocess.Popen(
        [sys.executable, CHILD], stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, text=True
    ) as process:
        try:
            assert process.stdout is not None
            yield process.stdout.readline().strip()
        finally:
            process.kill()


@pytest.fixture
def gateway(home: Home, upstream: str, tmp_path: Path) -> Iterator[Server]:
    write_config(home, CONFIG.format(url=upstream))
    added = tokenferry("account", "add", "one", "--provider", "here", stdin="none")
    assert added.code == 0, added.err
    with running("serve", tmp_path) as server:
        yield server


def ask(url: str, body: dict[str, Any], place: str = "/v1/messages") -> httpx2.Response:
    headers = {"x-api-key": tokenferry("token", "--gateway").out.strip(), "anthropic-version": "2023-06-01"}
    return httpx2.post(url + place, json=body, headers=headers, timeout=120)


def told(answer: httpx2.Response) -> dict[str, Any]:
    """What is the same however it came: without names, and with what was read in one figure."""
    assert answer.status_code == 200, answer.text
    is_streamed = answer.headers["content-type"].startswith("text/event-stream")
    found = message(answer.content) if is_streamed else answer.json()
    usage = found["usage"]
    if is_streamed:
        usage = events(answer.content)[0]["message"]["usage"] | usage  # its own tells what was read at the start alone
    read = usage["input_tokens"] + (usage.get("cache_read_input_tokens") or 0)
    # Which sequence stopped it is nowhere in Chat.
    kept = {name: found[name] for name in ("type", "role", "content", "stop_reason")}
    return kept | {"read": read, "written": usage["output_tokens"]}


@pytest.mark.parametrize("stream", [False, True])
def test_its_messages_and_ours_over_its_chat_say_the_same(gateway: Server, upstream: str, *, stream: bool) -> None:
    for case, fields in ASKED.items():
        body = {**PLAIN, **fields, "stream": stream}
        its, ours = told(ask(upstream, body)), told(ask(gateway.url, body))
        assert ours == its, case


def test_tokens_are_counted_nearly_as_it_counts_them(gateway: Server, upstream: str, tell: Tell) -> None:
    for _ in range(3):
        assert ask(gateway.url, PLAIN).status_code == 200
    for case, fields in ASKED.items():
        body = {name: value for name, value in {**PLAIN, **fields}.items() if name != "max_tokens"}
        place = "/v1/messages/count_tokens"
        its, ours = (ask(url, body, place).json()["input_tokens"] for url in (upstream, gateway.url))
        tell(f"tokens of {case}: {its} by the model, {ours} by ours")
        assert its / 4 < ours < 4 * its


def test_its_errors_come_as_anthropics(gateway: Server) -> None:
    long = {**PLAIN, "messages": [{"role": "user", "content": "word " * 2000}]}
    answer = ask(gateway.url, long)
    assert answer.status_code == 400, answer.text
    error = json.loads(answer.content)["error"]
    assert error["type"] == "invalid_request_error"
    assert "prompt is too long" in error["message"] or "context" in error["message"]
