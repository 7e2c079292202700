"""The sandbox's Responses: as strict as the vendor's."""

import json
from collections.abc import Callable
from typing import Any

import httpx2
import openai
import pytest

from tokenferry.sandbox import Sandbox

Ask = Callable[..., httpx2.Response]

LOOK: dict[str, Any] = {
    "type": "function",
    "name": "look",
    "parameters": {"type": "object", "properties": {"at": {"type": "integer"}}},
    "strict": False,
}
CALL = {"type": "function_call", "call_id": "call_1", "name": "look", "arguments": "{}"}
RESULT = {"type": "function_call_output", "call_id": "call_1", "output": "a ferry"}
HELLO = {"role": "user", "content": "hi"}
ENCRYPTED = ["reasoning.encrypted_content"]


@pytest.fixture
def ask(sandbox: Sandbox, http: httpx2.Client) -> Ask:
    def post(account: str = "alice", **changes: Any) -> httpx2.Response:
        headers = {"authorization": f"Bearer {sandbox.api_key(account)}"}
        return http.post("/v1/responses", json={"model": "gpt-5", "input": [HELLO], **changes}, headers=headers)

    return post


def events(answer: httpx2.Response) -> list[dict[str, Any]]:
    return [json.loads(line[6:]) for line in answer.text.splitlines() if line.startswith("data: ")]


def output(answer: httpx2.Response, kind: str) -> list[dict[str, Any]]:
    assert answer.status_code == 200, answer.text
    return [item for item in answer.json()["output"] if item["type"] == kind]


def test_an_answer_repeats_the_last_words(ask: Ask) -> None:
    for given in (
        "hi",
        [HELLO],
        [{"type": "message", "role": "user", "content": [{"type": "input_text", "text": "hi"}]}],
    ):
        (message,) = output(ask(input=given), "message")
        assert message["content"][0]["text"] == "Hello from the sandbox, you said: hi ⛴"
    cut = ask(input="word " * 40, max_output_tokens=16).json()
    assert (cut["status"], cut["incomplete_details"]) == ("incomplete", {"reason": "max_output_tokens"})
    assert cut["usage"]["output_tokens"] == 16


def test_the_vendors_own_client_reads_a_stream(sandbox: Sandbox) -> None:
    sandbox.settings(answer={"thinking": True, "calls": [{"name": "look", "input": {"at": 1}}]})
    with openai.OpenAI(base_url=f"{sandbox.url}/v1", api_key=sandbox.api_key("alice")) as client:
        asked: Any = {"model": "gpt-5", "input": "hi", "tools": [LOOK], "include": ENCRYPTED}
        with client.responses.stream(**asked) as stream:
            streamed = stream.get_final_response()
        assert [item.type for item in streamed.output] == ["reasoning", "message", "function_call"]
        assert streamed.output_text == "Hello from the sandbox, you said: hi ⛴"
        assert client.responses.create(**asked).output_text == streamed.output_text


def test_a_stream_tells_the_whole_answer_in_order(ask: Ask, sandbox: Sandbox) -> None:
    sandbox.settings(answer={"thinking": True, "calls": [{"name": "look", "input": {"at": 1}}]})
    streamed = events(ask(tools=[LOOK], stream=True))
    assert [event["sequence_number"] for event in streamed] == [*range(len(streamed))]
    assert [event["type"] for event in (*streamed[:2], streamed[-1])] == [
        "response.created",
        "response.in_progress",
        "response.completed",
    ]
    done = [event["item"] for event in streamed if event["type"] == "response.output_item.done"]
    assert streamed[-1]["response"]["output"] == done == ask(tools=[LOOK]).json()["output"]


def test_results_are_repeated_and_calls_not_made_again(ask: Ask, sandbox: Sandbox) -> None:
    sandbox.settings(answer={"calls": [{"name": "look"}]})
    assert len(output(ask(tools=[LOOK]), "function_call")) == 1
    after = ask(tools=[LOOK], input=[HELLO, CALL, RESULT])
    assert output(after, "function_call") == []
    assert "your tools said: a ferry" in output(after, "message")[0]["content"][0]["text"]


def test_encrypted_reasoning_is_read_by_its_own_organization_alone(ask: Ask, sandbox: Sandbox) -> None:
    for account in ("alice", "bob"):
        sandbox.settings(account, answer={"thinking": True})
    assert "encrypted_content" not in output(ask(), "reasoning")[0]
    own = output(ask(include=ENCRYPTED), "reasoning")
    assert ask(input=[HELLO, *own, CALL, RESULT]).status_code == 200
    foreign = ask("bob", input=[HELLO, *own, CALL, RESULT])
    assert foreign.status_code == 400
    assert "did not match the target organization" in foreign.json()["error"]["message"]
    assert "without its required following item" in ask(input=[HELLO, *own, HELLO, *own]).json()["error"]["message"]


@pytest.mark.parametrize(
    ("changes", "words"),
    [
        ({"max_tokens": 5}, "unknown field `max_tokens`"),
        ({"messages": []}, "unknown field `messages`"),
        ({"max_output_tokens": 15}, "max_output_tokens"),
        ({"input": []}, "$.input"),
        ({"input": [{"role": "user", "content": [{"type": "text", "text": "x"}]}]}, "content"),
        ({"input": [{"role": "tool", "content": "x"}]}, "role"),
        ({"input": [HELLO, CALL]}, "No tool output found for function call call_1"),
        ({"input": [HELLO, RESULT]}, "No tool call found for function call output with call_id call_1"),
        ({"input": [HELLO, {"type": "item_reference", "id": "x"}]}, "item_reference"),
        ({"tools": [{"type": "function", "function": {}}]}, "function"),
        ({"tools": [{**LOOK, "strict": True}]}, "additionalProperties"),
        ({"tool_choice": "required"}, "must be specified with 'tools'"),
        ({"tools": [LOOK], "tool_choice": {"type": "function", "name": "other"}}, "other"),
        ({"stop": ["x"]}, "unknown field `stop`"),
        ({"previous_response_id": "resp_1"}, "previous_response_id"),
    ],
)
def test_what_the_vendor_refuses_is_refused(ask: Ask, changes: dict[str, Any], words: str) -> None:
    refused = ask(**changes)
    assert refused.status_code == 400
    assert words in refused.json()["error"]["message"]


def test_errors_limits_and_faults_speak_the_dialect(ask: Ask, sandbox: Sandbox, http: httpx2.Client) -> None:
    assert http.post("/v1/responses", json={}).json()["error"]["code"] == "invalid_api_key"
    assert ask(model="claude").json()["error"]["code"] == "model_not_found"
    sandbox.fault("status", status=503)
    assert ask().json()["error"]["code"] == "server_is_overloaded"
    sandbox.fault("sse_error", deltas=2)
    broken = events(ask(stream=True))
    assert (broken[-1]["type"], broken[-1]["response"]["status"]) == ("response.failed", "failed")
    assert sum(event["type"].endswith(".delta") for event in broken) == 2
    sandbox.fault("truncate", events=2)
    assert len(events(ask(stream=True))) == 2
    sandbox.settings("alice", limits={"tokens": {"limit": 10, "remaining": 0, "reset_in": 30}})
    limited = ask()
    assert (limited.status_code, limited.json()["error"]["code"]) == (429, "rate_limit_exceeded")
