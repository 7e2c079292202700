import json
from collections.abc import Callable
from typing import Any

import httpx2
import pytest

from tokenferry.sandbox import Sandbox

Say = Callable[..., httpx2.Response]
Headers = Callable[[str], dict[str, str]]
VERSION = {"anthropic-version": "2023-06-01"}


def test_an_answer_repeats_the_last_words_of_the_user(say: Say, sandbox: Sandbox) -> None:
    answer = say("Grüße")
    message = answer.json()
    assert message["content"] == [{"type": "text", "text": "Hello from the sandbox, you said: Grüße ⛴"}]
    assert (message["type"], message["role"], message["stop_reason"]) == ("message", "assistant", "end_turn")
    assert message["model"] == "claude-x"
    assert message["usage"]["output_tokens"] == 8
    assert answer.headers["request-id"].startswith("req_")
    profile = sandbox.counters()["accounts"]["alice"]
    assert profile["requests"] == 1


def test_the_organization_tells_who_answered(say: Say, sandbox: Sandbox) -> None:
    found = {say(key=sandbox.api_key(name)).headers["anthropic-organization-id"] for name in ("alice", "bob", "dave")}
    assert len(found) == 3


def test_the_last_text_block_of_the_last_user_message_counts(say: Say) -> None:
    messages = [
        {"role": "user", "content": [{"type": "text", "text": "reminder"}, {"type": "text", "text": "x" * 300}]},
        {"role": "assistant", "content": "…"},
    ]
    assert say(messages=messages).json()["content"][0]["text"].split()[-2] == "x" * 200


def test_lone_surrogates_do_no_harm(say: Say, http: httpx2.Client, sandbox: Sandbox) -> None:
    body = b'{"model":"claude-x","max_tokens":50,"messages":[{"role":"user","content":"\\ud800"}]}'
    answer = http.post("/v1/messages", content=body, headers=VERSION | {"x-api-key": sandbox.api_key("bob")})
    assert answer.status_code == 200
    assert answer.json()["type"] == "message"


def test_max_tokens_cuts_the_answer(say: Say) -> None:
    message = say(max_tokens=2).json()
    assert message["stop_reason"] == "max_tokens"
    assert message["content"][0]["text"] == "Hello from "
    assert message["usage"]["output_tokens"] == 2


@pytest.mark.parametrize(
    ("changes", "status", "words"),
    [
        ({"model": None}, 400, "model: Field required"),
        ({"max_tokens": None}, 400, "max_tokens: Field required"),
        ({"messages": None}, 400, "messages: Field required"),
        ({"max_tokens": 0}, 400, "max_tokens"),
        ({"max_tokens": True}, 400, "max_tokens"),
        ({"messages": []}, 400, "messages"),
        ({"messages": [{"role": "user"}]}, 400, "messages.0.content"),
        ({"messages": [{"role": "robot", "content": "hi"}]}, 400, "messages.0.role"),
        ({"model": 3}, 400, "model"),
        ({"model": "gpt-9"}, 404, "model: gpt-9"),
    ],
)
def test_wrong_requests_get_the_envelope(changes: dict[str, Any], status: int, words: str, say: Say) -> None:
    answer = say(**changes)
    document = answer.json()
    assert answer.status_code == status
    assert document["type"] == "error"
    assert document["error"]["type"] == ("not_found_error" if status == 404 else "invalid_request_error")
    assert words in document["error"]["message"]
    assert document["request_id"] == answer.headers["request-id"]


def test_what_is_no_json_or_has_no_version_is_a_400(http: httpx2.Client, sandbox: Sandbox, say: Say) -> None:
    key = {"x-api-key": sandbox.api_key("alice")}
    assert http.post("/v1/messages", content=b"\xff{", headers=key | VERSION).status_code == 400
    assert "anthropic-version" in say(headers={"anthropic-version": ""}).json()["error"]["message"]


def test_an_api_key_passes_as_key_and_as_bearer(say: Say, sandbox: Sandbox) -> None:
    key = sandbox.api_key("dave")
    assert say(headers={"x-api-key": key}).status_code == 200
    assert say(headers={"x-api-key": "", "authorization": f"Bearer {key}"}).status_code == 200
    assert say(headers={"x-api-key": key, "authorization": f"Bearer {key}"}).status_code == 200


def test_an_oauth_token_needs_bearer_and_beta(say: Say, sandbox: Sandbox, bearer: Headers) -> None:
    token = sandbox.issue("alice")["access_token"]
    assert say(headers=bearer(token)).status_code == 200
    assert say(headers=bearer(token) | {"anthropic-beta": "a,oauth-2025-04-20 ,b"}).status_code == 200
    assert say(headers=bearer(token) | {"anthropic-beta": "other"}).status_code == 401
    assert say(headers={"x-api-key": token, "anthropic-beta": "oauth-2025-04-20"}).status_code == 401


@pytest.mark.parametrize(
    "headers",
    [
        {"x-api-key": ""},
        {"x-api-key": "sk-ant-api03-unknown"},
        {"x-api-key": "", "authorization": "Bearer unknown"},
        {"x-api-key": "", "authorization": "Bearer"},
        {"authorization": "Bearer another"},
    ],
)
def test_no_unknown_or_two_credentials_are_a_401(headers: dict[str, str], say: Say) -> None:
    answer = say(headers=headers)
    assert answer.status_code == 401
    assert answer.json()["error"]["type"] == "authentication_error"


def test_a_setup_token_passes_and_can_be_revoked(say: Say, sandbox: Sandbox, bearer: Headers) -> None:
    headers = bearer(sandbox.setup_token("alice"))
    assert say(headers=headers).status_code == 200
    sandbox.revoke("alice", "access")
    assert say(headers=headers).status_code == 200
    sandbox.revoke("alice", "setup-token")
    assert say(headers=headers).status_code == 401


def test_a_token_without_the_inference_scope_is_a_403(login: Any, say: Say, bearer: Headers) -> None:
    token = login.tokens(scope="user:profile")["access_token"]
    assert say(headers=bearer(token)).status_code == 403


def test_tokens_are_counted_without_an_answer(http: httpx2.Client, sandbox: Sandbox) -> None:
    headers = VERSION | {"x-api-key": sandbox.api_key("alice")}
    body = {"model": "claude-x", "messages": [{"role": "user", "content": "hi"}]}
    answer = http.post("/v1/messages/count_tokens?beta=true", json=body, headers=headers)
    assert list(answer.json()) == ["input_tokens"]
    assert http.post("/v1/messages/count_tokens", json={}, headers=headers).status_code == 400


def test_models_are_listed_in_pages(http: httpx2.Client, sandbox: Sandbox) -> None:
    headers = VERSION | {"x-api-key": sandbox.api_key("alice")}
    whole = http.get("/v1/models?limit=1000", headers=headers).json()
    ids = [model["id"] for model in whole["data"]]
    assert whole["has_more"] is False
    assert (whole["first_id"], whole["last_id"]) == (ids[0], ids[-1])
    seen: list[str] = []
    page: dict[str, Any] = {"has_more": True, "last_id": ""}
    while page["has_more"]:
        page = http.get("/v1/models", params={"limit": "2", "after_id": page["last_id"]}, headers=headers).json()
        seen += [model["id"] for model in page["data"]]
    assert seen == ids
    back = http.get("/v1/models", params={"limit": "2", "before_id": ids[3]}, headers=headers).json()
    assert [model["id"] for model in back["data"]] == ids[1:3]
    assert back["has_more"] is True
    assert http.get("/v1/models?limit=0", headers=headers).status_code == 400
    assert http.get(f"/v1/models/{ids[0]}", headers=headers).json() == whole["data"][0]
    assert http.get("/v1/models/unknown", headers=headers).status_code == 404


def test_probes_need_no_credential(http: httpx2.Client) -> None:
    for path in ("/", "/api/hello"):
        assert http.head(path).status_code == 200
        assert http.get(path).status_code == 200


def test_other_paths_and_methods_get_the_envelope(http: httpx2.Client) -> None:
    missing, wrong = http.post("/v1/unknown"), http.get("/v1/messages")
    assert (missing.status_code, missing.json()["error"]["type"]) == (404, "not_found_error")
    assert (wrong.status_code, wrong.headers["allow"]) == (405, "POST")
    assert wrong.json()["type"] == "error"


def test_bodies_up_to_32_mib_are_read_and_larger_ones_refused(http: httpx2.Client, sandbox: Sandbox) -> None:
    headers = VERSION | {"x-api-key": sandbox.api_key("alice")}
    body: dict[str, Any] = {"model": "claude-x", "max_tokens": 9, "messages": [{"role": "user", "content": ""}]}
    body["messages"][0]["content"] = "x" * (32 * 1024 * 1024 - len(json.dumps(body)))
    content = json.dumps(body).encode()
    assert len(content) == 32 * 1024 * 1024
    assert http.post("/v1/messages", content=content, headers=headers).status_code == 200
    refused = http.post("/v1/messages", content=content + b" ", headers=headers)
    assert (refused.status_code, refused.json()["error"]["type"]) == (413, "request_too_large")
