"""The sandbox's Chat Completions: as strict as the vendor's, and with the habits of others on request."""

import json
from collections.abc import Callable
from typing import Any

import httpx2
import pytest

from tokenferry.sandbox import Sandbox

Ask = Callable[..., httpx2.Response]

PATH = "/v1/chat/completions"
LOOK: dict[str, Any] = {
    "type": "function",
    "function": {"name": "look", "parameters": {"type": "object", "properties": {"at": {"type": "integer"}}}},
}
CALL = {"id": "call_1", "type": "function", "function": {"name": "look", "arguments": "{}"}}
ASKED = {"role": "assistant", "tool_calls": [CALL]}
RESULT = {"role": "tool", "tool_call_id": "call_1", "content": "seen"}
HELLO = {"role": "user", "content": "hi"}


@pytest.fixture
def ask(sandbox: Sandbox, http: httpx2.Client) -> Ask:
    """Ask for a completion; None takes a field out."""

    def post(**changes: Any) -> httpx2.Response:
        body = {"model": "gpt-4o", "messages": [HELLO], "max_tokens": 50} | changes
        sent = {name: value for name, value in body.items() if value is not None}
        headers = {"authorization": f"Bearer {sandbox.api_key('alice')}"}
        return http.post(PATH, json=sent, headers=headers)

    return post


def chunks(answer: httpx2.Response) -> list[Any]:
    lines = [line[6:] for line in answer.text.splitlines() if line.startswith("data: ")]
    return [line if line == "[DONE]" else json.loads(line) for line in lines]


def deltas(answer: httpx2.Response) -> list[dict[str, Any]]:
    return [one["choices"][0]["delta"] for one in chunks(answer) if one != "[DONE]" and one["choices"]]


def test_an_answer_repeats_the_last_words_of_the_user(ask: Ask) -> None:
    answer = ask()
    document = answer.json()
    (choice,) = document["choices"]
    assert choice["message"]["content"] == "Hello from the sandbox, you said: hi ⛴"
    assert (choice["finish_reason"], document["object"]) == ("stop", "chat.completion")
    assert document["usage"]["completion_tokens"] == 8
    assert answer.headers["x-ratelimit-limit-requests"] == "4000"
    assert answer.headers["openai-organization"] == "org-alice"
    assert ask(max_tokens=2).json()["choices"][0]["finish_reason"] == "length"


def test_a_stream_says_the_same_and_counts_only_where_that_is_asked_for(ask: Ask) -> None:
    plain, counted = ask(stream=True), ask(stream=True, stream_options={"include_usage": True})
    assert "".join(delta.get("content", "") for delta in deltas(plain)) == "Hello from the sandbox, you said: hi ⛴"
    assert chunks(plain)[-1] == chunks(counted)[-1] == "[DONE]"
    assert not any(one.get("usage") for one in chunks(plain)[:-1])
    assert [bool(one["usage"]) for one in chunks(counted)[-3:-1]] == [False, True]


def test_tools_are_called_as_the_settings_say_and_once(ask: Ask, sandbox: Sandbox) -> None:
    wanted = [{"name": "look", "input": {"at": 1}}, {"name": "look", "input": {"at": 2}}]
    sandbox.settings(answer={"calls": wanted})
    (choice,) = ask(tools=[LOOK]).json()["choices"]
    calls = choice["message"]["tool_calls"]
    assert choice["finish_reason"] == "tool_calls"
    assert [json.loads(call["function"]["arguments"]) for call in calls] == [{"at": 1}, {"at": 2}]
    assert len({call["id"] for call in calls}) == 2
    results = [{"role": "tool", "tool_call_id": call["id"], "content": "x"} for call in calls]
    after = ask(tools=[LOOK], messages=[HELLO, {"role": "assistant", "tool_calls": calls}, *results]).json()
    assert "tool_calls" not in after["choices"][0]["message"]
    (one,) = ask(tools=[LOOK], parallel_tool_calls=False).json()["choices"][0]["message"]["tool_calls"]
    assert one["id"] == calls[0]["id"]
    fragments = [call for delta in deltas(ask(tools=[LOOK], stream=True)) for call in delta.get("tool_calls", ())]
    assert {fragment["index"] for fragment in fragments} == {0, 1}


@pytest.mark.parametrize(
    ("changes", "words"),
    [
        ({"system": "x"}, "unknown field `system`"),
        ({"messages": []}, "$.messages"),
        ({"messages": [{"role": "user", "content": "x", "cache_control": {}}]}, "cache_control"),
        ({"messages": [{"role": "user", "content": []}]}, "content"),
        ({"messages": [{"role": "user", "content": [{"type": "image", "source": {}}]}]}, "image"),
        ({"messages": [{"role": "robot", "content": "x"}]}, "robot"),
        ({"messages": [HELLO, {"role": "assistant", "content": None}]}, "got null"),
        ({"messages": [HELLO, ASKED]}, "there is none for call_1"),
        ({"messages": [HELLO, ASKED, HELLO]}, "there is none for call_1"),
        ({"messages": [HELLO, RESULT]}, "preceding message with 'tool_calls'"),
        ({"messages": [HELLO, ASKED, RESULT, RESULT]}, "preceding message with 'tool_calls'"),
        ({"messages": [HELLO, {"role": "assistant", "tool_calls": [{**CALL, "id": "x" * 41}]}]}, "tool_calls"),
        ({"tools": []}, "$.tools"),
        ({"tools": [{"type": "function", "function": {"name": "a b"}}]}, "name"),
        ({"tools": [{"type": "web_search"}]}, "$.tools"),
        ({"tools": [{**LOOK, "function": {**LOOK["function"], "strict": True}}]}, "additionalProperties"),
        ({"tool_choice": "auto"}, "only allowed when 'tools'"),
        ({"parallel_tool_calls": False}, "only allowed when 'tools'"),
        ({"tools": [LOOK], "tool_choice": {"type": "function", "function": {"name": "other"}}}, "not found in 'tools'"),
        ({"tools": [LOOK], "tool_choice": "any"}, "any"),
        ({"max_tokens": 0}, "$.max_tokens"),
        ({"max_completion_tokens": 5}, "at the same time"),
        ({"stream_options": {"include_usage": True}}, "only allowed when 'stream'"),
        ({"stop": list("abcde")}, "$.stop"),
        ({"n": 2}, "$.n"),
        ({"reasoning_effort": "low"}, "reasoning_effort"),
        ({"model": "gpt-5"}, "Use 'max_completion_tokens'"),
        ({"model": "gpt-5", "max_tokens": None, "temperature": 0.5}, "temperature"),
    ],
)
def test_what_the_vendor_would_not_take_is_refused(ask: Ask, changes: dict[str, Any], words: str) -> None:
    answer = ask(**changes)
    error = answer.json()["error"]
    assert (answer.status_code, error["type"]) == (400, "invalid_request_error"), answer.text
    assert words in error["message"]


def test_who_calls_and_what_for_is_checked_in_the_vendors_envelope(
    ask: Ask, http: httpx2.Client, sandbox: Sandbox
) -> None:
    body = {"model": "gpt-4o", "messages": [HELLO]}
    assert http.post(PATH, json=body).json()["error"]["code"] == "invalid_api_key"
    both = {"authorization": f"Bearer {sandbox.api_key('bob')}", "x-api-key": sandbox.api_key("bob")}
    assert http.post(PATH, json=body, headers=both).status_code == 401
    assert ask(model="claude-x").json()["error"]["code"] == "model_not_found"
    assert http.get(PATH).status_code == 405


def test_limits_are_the_accounts(ask: Ask, sandbox: Sandbox) -> None:
    sandbox.settings("alice", limits={"tokens": {"limit": 10, "remaining": 0, "reset_in": 30}})
    limited = ask()
    assert (limited.status_code, limited.headers["retry-after"]) == (429, "30")
    assert limited.headers["x-ratelimit-reset-tokens"] == "30s"
    assert limited.json()["error"]["code"] == "rate_limit_exceeded"


def test_faults_speak_the_dialect(ask: Ask, sandbox: Sandbox) -> None:
    sandbox.fault("status", status=503)
    assert ask().json()["error"]["code"] == "server_is_overloaded"
    sandbox.fault("sse_error", deltas=2)
    broken = chunks(ask(stream=True))
    assert "error" in broken[-1]
    assert sum(bool(one.get("choices") and one["choices"][0]["delta"].get("content")) for one in broken) == 2
    sandbox.fault("truncate", events=2)
    assert len(chunks(ask(stream=True))) == 2


def test_habits_of_other_vendors_are_shown_on_request(ask: Ask, sandbox: Sandbox) -> None:
    sandbox.settings(answer={"calls": [{"name": "look"}, {"name": "look"}]})
    sandbox.fault("chat_quirks", same_index=True, ids=False, usage="each", finish="stop", comments=True, done=False)
    answer = ask(tools=[LOOK], stream=True, stream_options={"include_usage": True})
    fragments = [call for delta in deltas(answer) for call in delta.get("tool_calls", ())]
    assert {fragment["index"] for fragment in fragments} == {0}
    assert not any("id" in fragment for fragment in fragments)
    streamed = chunks(answer)
    assert all(one["usage"] for one in streamed)
    assert streamed[-1]["choices"][0]["finish_reason"] == "stop"
    assert answer.text.startswith(": keep-alive\n\n")
    sandbox.fault("chat_quirks", usage="nowhere")
    assert not any(one.get("usage") for one in chunks(ask(stream=True))[:-1])


def test_thinking_that_another_model_signed_is_refused(say: Callable[..., httpx2.Response]) -> None:
    """So the vendor answers; a session that comes back from another one must be without it."""
    own = say(thinking={"type": "adaptive"})
    assert own.status_code == 200
    foreign = {"type": "thinking", "thinking": "hm", "signature": "tokenferry.reasoning.x"}
    turns = [HELLO, {"role": "assistant", "content": [foreign, {"type": "text", "text": "so"}]}, HELLO]
    refused = say(messages=turns)
    assert refused.status_code == 400
    assert "messages.1.content.0: Invalid `signature`" in refused.json()["error"]["message"]


def test_thinking_that_is_missing_before_calls_is_refused_with_a_budget(say: Callable[..., httpx2.Response]) -> None:
    call = {"type": "tool_use", "id": "toolu_1", "name": "look", "input": {}}
    result = {"type": "tool_result", "tool_use_id": "toolu_1", "content": "x"}
    turns = [HELLO, {"role": "assistant", "content": [call]}, {"role": "user", "content": [result]}]
    assert say(messages=turns, thinking={"type": "adaptive"}).status_code == 200
    assert say(messages=turns[:1], thinking={"type": "enabled", "budget_tokens": 1024}).status_code == 200
    refused = say(messages=turns, thinking={"type": "enabled", "budget_tokens": 1024})
    assert "messages.1.content.0.type: Expected `thinking`" in refused.json()["error"]["message"]
    clearing = say(messages=turns, context_management={"edits": [{"type": "clear_thinking_20251015"}]})
    assert "requires `thinking` to be enabled" in clearing.json()["error"]["message"]


def test_reasoning_of_another_account_is_refused(ask: Ask, sandbox: Sandbox) -> None:
    sandbox.settings(answer={"thinking": True})
    own = ask().json()["choices"][0]["message"]["reasoning_content"]
    assert "alice" in own
    assert "reasoning_content" not in ask(model="gpt-5", max_tokens=None, reasoning_effort="none").text
    for thought, status in ((own, 200), (own.replace("alice", "bob"), 400)):
        said = {"role": "assistant", "content": "so", "reasoning_content": thought}
        assert ask(messages=[HELLO, said, HELLO]).status_code == status
