from collections.abc import Callable
from typing import Any

import httpx2

from tokenferry.sandbox import Sandbox

Headers = Callable[[str], dict[str, str]]


def test_a_profile_tells_account_and_plan(http: httpx2.Client, login: Any) -> None:
    tokens = login.tokens("bob")
    answer = http.get("/api/oauth/profile", headers={"authorization": f"Bearer {tokens['access_token']}"}).json()
    assert answer["account"]["email"] == "bob@example.com"
    assert answer["account"]["uuid"] == tokens["account"]["uuid"]
    assert (answer["account"]["has_claude_pro"], answer["account"]["has_claude_max"]) == (True, False)
    assert answer["organization"]["uuid"] == tokens["organization"]["uuid"]


def test_a_profile_needs_an_oauth_token_with_its_scope(http: httpx2.Client, login: Any, sandbox: Sandbox) -> None:
    token = login.tokens(scope="user:inference")["access_token"]
    assert http.get("/api/oauth/profile", headers={"authorization": f"Bearer {token}"}).status_code == 403
    assert http.get("/api/oauth/profile", headers={"x-api-key": sandbox.api_key("alice")}).status_code == 401


def test_usage_follows_the_limits(http: httpx2.Client, sandbox: Sandbox, bearer: Headers) -> None:
    sandbox.settings("alice", limits={"5h": {"utilization": 0.425, "reset_in": 600}})
    headers = bearer(sandbox.issue("alice")["access_token"])
    answer = http.get("/api/oauth/usage", headers=headers).json()
    assert answer["five_hour"]["utilization"] == 42.5
    assert answer["five_hour"]["resets_at"].endswith("+00:00")
    assert answer["seven_day_opus"] is None
    assert http.get("/api/oauth/usage", headers={"authorization": headers["authorization"]}).status_code == 401


def test_usage_is_known_for_subscriptions_only(http: httpx2.Client, sandbox: Sandbox, bearer: Headers) -> None:
    headers = bearer(sandbox.issue("carol")["access_token"])
    assert http.get("/api/oauth/usage", headers=headers).status_code == 403


def test_a_console_login_can_make_an_api_key_and_a_subscription_can_not(
    http: httpx2.Client,
    login: Any,
    say: Callable[..., httpx2.Response],
) -> None:
    path = "/api/oauth/claude_cli/create_api_key"
    carol = {"authorization": f"Bearer {login.tokens('carol')['access_token']}"}
    made = http.post(path, headers=carol).json()["raw_key"]
    assert made.startswith("sk-ant-api03-sandbox-")
    assert say(key=made).status_code == 200
    alice = {"authorization": f"Bearer {login.tokens('alice')['access_token']}"}
    assert http.post(path, headers=alice).status_code == 403
