"""The sandbox's Gemini: as strict as the vendor's, which checks signatures and counts responses."""

import json
from collections.abc import Callable
from typing import Any

import httpx2
import pytest

from tokenferry.sandbox import Sandbox

Ask = Callable[..., httpx2.Response]

LOOK: dict[str, Any] = {"name": "look", "parametersJsonSchema": {"type": "object", "properties": {"at": {}}}}
TOOLS = [{"functionDeclarations": [LOOK, {**LOOK, "name": "touch"}]}]
HELLO = {"role": "user", "parts": [{"text": "hi"}]}
PATH = "/v1beta/models/gemini-3-pro:"
SKIPPED = "skip_thought_signature_validator"


def answered(*names: str, known: str | None = None) -> dict[str, Any]:
    more = {} if known is None else {"id": known}
    responses = [{"name": name, "response": {"output": "a ferry"}, **more} for name in names]
    return {"role": "user", "parts": [{"functionResponse": one} for one in responses]}


def called(*names: str, signature: str | None = SKIPPED) -> dict[str, Any]:
    parts: list[dict[str, Any]] = [{"functionCall": {"name": name, "args": {}}} for name in names]
    if signature is not None:
        parts[0]["thoughtSignature"] = signature
    return {"role": "model", "parts": parts}


@pytest.fixture
def ask(sandbox: Sandbox, http: httpx2.Client) -> Ask:
    def post(path: str = PATH + "generateContent", account: str = "alice", **changes: Any) -> httpx2.Response:
        key = sandbox.api_key(account)
        headers = {"authorization": f"Bearer {key}"} if "projects" in path else {"x-goog-api-key": key}
        return http.post(path, json={"contents": [HELLO], **changes}, headers=headers)

    return post


def events(answer: httpx2.Response) -> list[dict[str, Any]]:
    return [json.loads(one[6:]) for one in answer.content.decode().split("\r\n\r\n") if one]


def parts(answer: httpx2.Response) -> list[dict[str, Any]]:
    assert answer.status_code == 200, answer.text
    found: list[dict[str, Any]] = answer.json()["candidates"][0]["content"]["parts"]
    return found


def refusal(answer: httpx2.Response) -> str:
    assert answer.status_code == 400, answer.text
    return str(answer.json()["error"]["message"])


def test_an_answer_repeats_the_last_words_here_and_at_vertex(ask: Ask) -> None:
    vertex = "/v1/projects/p/locations/eu/publishers/google/models/gemini-2.5-pro:generateContent"
    for path in (PATH + "generateContent", vertex):
        assert parts(ask(path))[0]["text"] == "Hello from the sandbox, you said: hi ⛴"
    cut = ask(generationConfig={"maxOutputTokens": 2}).json()
    assert cut["candidates"][0]["finishReason"] == "MAX_TOKENS"
    assert cut["usageMetadata"]["candidatesTokenCount"] == 2
    assert "thoughtsTokenCount" not in cut["usageMetadata"], "zeros are left out"
    assert ask(PATH + "countTokens").json()["totalTokens"] > 0


def test_a_stream_tells_the_whole_answer_and_signs_calls_and_texts(ask: Ask, sandbox: Sandbox) -> None:
    sandbox.settings(answer={"thinking": True, "calls": [{"name": "look", "input": {"at": 1}}, {"name": "touch"}]})
    asked = {"tools": TOOLS, "generationConfig": {"thinkingConfig": {"includeThoughts": True}}}
    whole = parts(ask(**asked))
    streamed = [
        part
        for event in events(ask(PATH + "streamGenerateContent?alt=sse", **asked))
        for part in event["candidates"][0]["content"]["parts"]
    ]
    for thought in (True, None):
        texts = "".join(one.get("text", "") for one in streamed if one.get("thought") is thought)
        assert texts == "".join(one.get("text", "") for one in whole if one.get("thought") is thought)
    calls = [one for one in whole if "functionCall" in one]
    assert [one for one in streamed if "functionCall" in one] == calls
    assert ["thoughtSignature" in one for one in calls] == [True, False]
    last = events(ask(PATH + "streamGenerateContent?alt=sse"))[-1]["candidates"][0]
    assert (last["finishReason"], "thoughtSignature" in last["content"]["parts"][0]) == ("STOP", True)


def test_a_signature_is_read_by_its_own_account_and_model_and_on_its_own_call_alone(ask: Ask, sandbox: Sandbox) -> None:
    for account in ("alice", "bob"):
        sandbox.settings(account, answer={"calls": [{"name": "look"}]})
    call = [one for one in parts(ask(tools=TOOLS)) if "functionCall" in one]
    known = call[0]["functionCall"]["id"]
    turns = [HELLO, {"role": "model", "parts": call}, answered("look", known=known)]
    assert "your tools said: a ferry" in parts(ask(contents=turns, tools=TOOLS))[0]["text"]
    assert refusal(ask(account="bob", contents=turns)) == "Corrupted thought signature."
    assert refusal(ask("/v1beta/models/gemini-3-flash:generateContent", contents=turns)).startswith("Corrupted")
    other = called("touch", signature=call[0]["thoughtSignature"])
    assert refusal(ask(contents=[HELLO, other, answered("touch")])).startswith("Corrupted")
    assert "ids" in refusal(ask(contents=[*turns[:2], answered("look")]))


def test_each_step_since_the_last_words_needs_a_signature_on_its_first_call(ask: Ask) -> None:
    bare, results = called("look", "touch", signature=None), answered("look", "touch")
    assert "missing a thought_signature" in refusal(ask(contents=[HELLO, bare, results]))
    assert "`default_api:look` , position 4" in refusal(
        ask(contents=[HELLO, called("look"), answered("look"), bare, results])
    )
    parts(ask(contents=[HELLO, called("look", "touch"), results]))
    said = {"role": "model", "parts": [{"text": "so"}]}
    parts(ask(contents=[HELLO, bare, results, said, HELLO]))
    parts(ask("/v1beta/models/gemini-2.5-pro:generateContent", contents=[HELLO, bare, results]))


@pytest.mark.parametrize(
    ("changes", "words"),
    [
        ({"max_tokens": 5}, "unknown field `maxTokens`"),
        ({"contents": []}, "$.contents"),
        ({"contents": [called("look")]}, "number of function response parts"),
        ({"contents": [HELLO, answered("look")]}, "immediately after a function call turn"),
        ({"contents": [HELLO, called("look", "touch"), answered("look")]}, "number of function response parts"),
        ({"contents": [HELLO, called("look"), HELLO]}, "number of function response parts"),
        ({"contents": [HELLO, called("look"), called("touch"), answered("look")]}, "number of function response parts"),
        ({"contents": [HELLO, {"role": "model", "parts": [{"text": "a"}]}]}, "ends with a user turn"),
        ({"tools": [{"functionDeclarations": [{"name": "1st"}]}]}, "functionDeclarations"),
        (
            {
                "tools": [
                    {"functionDeclarations": [{**LOOK, "parametersJsonSchema": {"type": "object", "$schema": ""}}]}
                ]
            },
            'Unknown name "$schema"',
        ),
        (
            {
                "tools": [
                    {
                        "functionDeclarations": [
                            {"name": "f", "parametersJsonSchema": {"type": "object", "properties": {"a": {"const": 1}}}}
                        ]
                    }
                ]
            },
            'Unknown name "const"',
        ),
        ({"toolConfig": {"functionCallingConfig": {"mode": "ANY"}}}, "without functions"),
        (
            {"tools": TOOLS, "toolConfig": {"functionCallingConfig": {"mode": "ANY", "allowedFunctionNames": ["x"]}}},
            "allowed function names",
        ),
        ({"generationConfig": {"stopSequences": [*"abcdef"]}}, "stopSequences"),
        ({"generationConfig": {"thinkingConfig": {"thinkingBudget": 1, "thinkingLevel": "LOW"}}}, "only one of"),
        ({"generationConfig": {"thinkingConfig": {"thinkingLevel": "MINIMAL"}}}, "MINIMAL is not supported"),
    ],
)
def test_what_the_vendor_refuses_is_refused(ask: Ask, changes: dict[str, Any], words: str) -> None:
    assert words in refusal(ask(**changes))


def test_errors_limits_and_faults_speak_the_dialect(ask: Ask, sandbox: Sandbox, http: httpx2.Client) -> None:
    refused = http.post(PATH + "generateContent", json={}, headers={"x-goog-api-key": "none"})
    assert (refused.status_code, refused.json()["error"]["details"][0]["reason"]) == (400, "API_KEY_INVALID")
    assert ask("/v1beta/models/gpt:generateContent").json()["error"]["status"] == "NOT_FOUND"
    sandbox.fault("status", status=503)
    assert ask().json()["error"]["status"] == "UNAVAILABLE"
    stream = PATH + "streamGenerateContent?alt=sse"
    sandbox.fault("sse_error", deltas=2)
    broken = events(ask(stream))
    assert (len(broken), broken[-1]["error"]["status"]) == (3, "UNAVAILABLE")
    sandbox.fault("gemini_quirks", finish="MALFORMED_FUNCTION_CALL", times=2)
    for path in (PATH + "generateContent", stream):
        answer = ask(path)
        (document,) = events(answer) if path is stream else [answer.json()]
        assert (document["candidates"][0]["finishReason"], document["candidates"][0]["content"]) == (
            "MALFORMED_FUNCTION_CALL",
            {},
        )
    sandbox.fault("gemini_quirks", block="SAFETY")
    assert ask().json()["promptFeedback"] == {"blockReason": "SAFETY"}
    sandbox.fault("gemini_quirks", content=True, end=False)
    assert not any("finishReason" in event["candidates"][0] for event in events(ask(stream)))
    sandbox.settings("alice", limits={"tokens": {"limit": 10, "remaining": 0, "reset_in": 30}})
    limited = ask()
    kinds = [one["@type"].rpartition(".")[2] for one in limited.json()["error"]["details"]]
    assert (limited.status_code, kinds) == (429, ["QuotaFailure", "RetryInfo"])
