import hashlib
import json
from collections.abc import Callable
from email.utils import parsedate_to_datetime
from typing import Any

import httpx2
import pytest

from tokenferry.errors import UsageError
from tokenferry.sandbox import Sandbox

Say = Callable[..., httpx2.Response]
Headers = Callable[[str], dict[str, str]]


def test_the_index_names_every_call(http: httpx2.Client) -> None:
    text = http.get("/_sandbox/").text
    for name in ("issue", "faults", "settings", "clock", "revoke", "counters", "requests", "reset"):
        assert f"/_sandbox/{name}" in text


def test_issue_gives_a_bundle_that_works(http: httpx2.Client, login: Any, say: Say, bearer: Headers) -> None:
    bundle = http.post("/_sandbox/issue", json={"account": "alice", "expires_in": 60}).json()
    assert list(bundle) == ["access_token", "refresh_token", "expires_at", "account_email", "scopes"]
    assert bundle["account_email"] == "alice@example.com"
    assert say(headers=bearer(bundle["access_token"])).status_code == 200
    assert login.refresh(bundle["refresh_token"], client_id="any-client").status_code == 200


def test_issue_can_give_an_access_token_that_has_expired(
    http: httpx2.Client,
    login: Any,
    say: Say,
    bearer: Headers,
    sandbox: Sandbox,
) -> None:
    bundle = http.get("/_sandbox/issue?account=bob&expires_in=-3600").json()
    assert bundle["expires_at"] < sandbox.now() - 3500
    assert say(headers=bearer(bundle["access_token"])).status_code == 401
    assert login.refresh(bundle["refresh_token"]).status_code == 200


def test_issue_gives_keys_bare_where_asked(http: httpx2.Client, sandbox: Sandbox) -> None:
    key = http.post("/_sandbox/issue", content=b'{"account": "dave", "kind": "api-key"}').json()["key"]
    plain = http.get("/_sandbox/issue?account=dave&kind=api-key&plain=1")
    assert plain.text == key == sandbox.api_key("dave")
    assert plain.headers["content-type"].startswith("text/plain")
    setup = http.post("/_sandbox/issue?plain=1", json={"account": "alice", "kind": "setup-token"}).text
    assert setup == sandbox.setup_token("alice")
    assert setup.startswith("sk-ant-oat01-sandbox-alice-")
    assert len(setup) >= 80
    assert http.get("/_sandbox/issue?account=alice&plain=1").text.startswith("sk-ant-oat01-sandbox-")


@pytest.mark.parametrize(
    ("method", "path", "body", "status"),
    [
        ("POST", "issue", {"account": "mallory"}, 400),
        ("POST", "issue", {}, 400),
        ("POST", "issue", {"account": "dave"}, 400),
        ("POST", "issue", {"account": "alice", "kind": "cookie"}, 400),
        ("POST", "issue", {"account": "alice", "expires_in": "soon"}, 400),
        ("POST", "issue", {"account": "alice", "typo": 1}, 400),
        ("POST", "issue", [], 400),
        ("POST", "clock", {}, 400),
        ("POST", "clock", {"advance": "1"}, 400),
        ("POST", "clock", {"advance": 1, "set": 2}, 400),
        ("POST", "revoke", {"account": "alice", "what": "everything"}, 400),
        ("POST", "revoke", {"account": "dave", "what": "setup-token"}, 400),
        ("POST", "settings", {"typo": 1}, 400),
        ("POST", "settings", {"rotation": 1}, 400),
        ("POST", "settings", {"token_lifetime": "1"}, 400),
        ("POST", "settings", {"device_interval": "1"}, 400),
        ("POST", "settings", {"answer": {"typo": True}}, 400),
        ("POST", "settings", {"answer": {"text": 1}}, 400),
        ("POST", "settings", {"limits": {"5h": 1}}, 400),
        ("POST", "settings", {"limits": {"5h": {"reset_in": "soon"}}}, 400),
        ("POST", "settings", {"limits": {"a b": {}}}, 400),
        ("POST", "faults", {"kind": "typo"}, 400),
        ("POST", "counters", {}, 405),
        ("POST", "unheard", {}, 404),
    ],
)
def test_calls_that_make_no_sense_say_what_would(
    method: str,
    path: str,
    body: Any,
    status: int,
    http: httpx2.Client,
) -> None:
    answer = http.request(method, f"/_sandbox/{path}", json=body)
    assert answer.status_code == status
    assert answer.json()["error"].endswith(".")


@pytest.mark.parametrize(
    ("headers", "status"),
    [
        ({"host": "example.com"}, 421),
        ({"host": "127.0.0.1.example.com"}, 421),
        ({"host": "[::1"}, 421),
        ({"origin": "http://127.0.0.1:1"}, 403),
        ({"origin": "null"}, 403),
        ({"origin": ""}, 403),
        ({"sec-fetch-site": "cross-site"}, 403),
    ],
)
def test_web_pages_control_nothing(headers: dict[str, str], status: int, http: httpx2.Client) -> None:
    assert http.get("/_sandbox/issue?account=alice", headers=headers).status_code == status
    assert http.post("/_sandbox/reset", headers=headers).status_code == status


def test_faults_are_listed_and_cleared(http: httpx2.Client, say: Say) -> None:
    http.post("/_sandbox/faults", json={"kind": "status", "status": 500, "times": 0})
    say()
    listed = http.get("/_sandbox/faults").json()["faults"]
    assert (listed[0]["kind"], listed[0]["status"], listed[0]["struck"]) == ("status", 500, 1)
    http.delete("/_sandbox/faults")
    assert http.get("/_sandbox/faults").json() == {"faults": []}
    assert say().status_code == 200


def test_the_clock_moves(http: httpx2.Client, sandbox: Sandbox) -> None:
    http.post("/_sandbox/clock", json={"set": 2_000_000_000})
    assert 0 <= http.get("/_sandbox/clock").json()["now"] - 2_000_000_000 < 60
    assert sandbox.advance(100) >= 2_000_000_100
    reported = parsedate_to_datetime(http.get("/api/hello").headers["date"]).timestamp()
    assert 2_000_000_100 <= reported < 2_000_000_160


def test_settings_reach_one_account_or_all(http: httpx2.Client, sandbox: Sandbox) -> None:
    one = http.post("/_sandbox/settings", json={"account": "alice", "token_lifetime": 10}).json()
    assert (list(one), one["alice"]["token_lifetime"]) == (["alice"], 10)
    everyone = http.post("/_sandbox/settings", json={"reuse_grace": 5}).json()
    assert {name: each["token_lifetime"] for name, each in everyone.items()} == {
        "alice": 10,
        "bob": 28_800,
        "carol": 28_800,
        "dave": 28_800,
    }
    assert all(each["reuse_grace"] == 5 for each in everyone.values())
    assert sandbox.issue("alice")["expires_at"] <= sandbox.now() + 10


def test_device_settings_hold_for_everybody(http: httpx2.Client) -> None:
    http.post("/_sandbox/settings", json={"device_interval": 0, "device_lifetime": 30})
    device = http.post("/oauth/device_authorization").json()
    assert (device["interval"], device["expires_in"]) == (0, 30)


@pytest.mark.parametrize(("what", "refresh"), [("access", 200), ("family", 400)])
def test_revoking_ends_access_or_the_whole_login(what: str, refresh: int, login: Any, sandbox: Sandbox) -> None:
    bundle = sandbox.issue("alice")
    login.http.post("/_sandbox/revoke", json={"account": "alice", "what": what})
    profile = login.http.get("/api/oauth/profile", headers={"authorization": f"Bearer {bundle['access_token']}"})
    assert profile.status_code == 401
    assert login.refresh(bundle["refresh_token"]).status_code == refresh


def test_revoking_an_api_key_ends_it_until_a_reset(say: Say, http: httpx2.Client, sandbox: Sandbox) -> None:
    sandbox.revoke("alice", "api-key")
    assert say().status_code == 401
    http.post("/_sandbox/reset")
    assert say().status_code == 200


def test_counters_count_by_account_path_and_credential(say: Say, http: httpx2.Client, sandbox: Sandbox) -> None:
    say()
    say()
    say(key=sandbox.api_key("bob"))
    http.get("/nowhere")
    found = http.get("/_sandbox/counters").json()
    assert found["totals"]["requests"] == 4
    assert (found["accounts"]["alice"]["requests"], found["accounts"]["bob"]["requests"]) == (2, 1)
    assert found["paths"] == {"/v1/messages": 3, "/nowhere": 1}
    name = hashlib.sha256(sandbox.api_key("alice").encode()).hexdigest()[:8]
    assert found["credentials"][name] == 2
    assert found["in_flight"] == 0


def test_requests_are_kept_byte_exact_and_without_secrets(http: httpx2.Client, sandbox: Sandbox, login: Any) -> None:
    key, token = sandbox.api_key("alice"), sandbox.issue("alice")["access_token"]
    body = b'{"model" :  "claude-x","\xc3\xa4": 1}'
    headers = [
        ("x-api-key", key),
        ("authorization", f"Bearer {token}"),
        ("x-two", "1"),
        ("x-two", "2"),
        ("x-odd", token),
    ]
    http.post("/v1/messages?beta=true&x=%2F", content=body, headers=headers)
    login.tokens()
    seen = http.get("/_sandbox/requests?last=3").json()["requests"]
    request = seen[0]
    assert (request["method"], request["path"], request["query"]) == ("POST", "/v1/messages", "beta=true&x=%2F")
    assert request["body_sha256"] == hashlib.sha256(body).hexdigest()
    assert request["body_length"] == len(body)
    assert request["model"] == "claude-x"
    assert (request["status"], request["account"]) == (401, "alice")
    prints = [hashlib.sha256(secret.encode()).hexdigest()[:8] for secret in (key, token)]
    assert request["credentials"] == sorted(prints)
    shown = {name: value for name, value in request["headers"] if name != "x-two"}
    assert (shown["x-api-key"], shown["authorization"]) == (prints[0], f"Bearer {prints[1]}")
    assert [value for name, value in request["headers"] if name == "x-two"] == ["1", "2"]
    text = json.dumps(seen)
    assert "sk-ant-" not in text
    assert "a1b2c3" not in text, "neither state nor code of a login is kept"


def test_last_bounds_the_requests(http: httpx2.Client) -> None:
    for _ in range(3):
        http.get("/api/hello")
    assert len(http.get("/_sandbox/requests?last=2").json()["requests"]) == 2
    assert http.get("/_sandbox/requests?last=0").json()["requests"] == []
    assert http.get("/_sandbox/requests?last=x").status_code == 400


def test_the_same_refusals_are_raised_in_process(sandbox: Sandbox) -> None:
    for call in (
        lambda: sandbox.issue("mallory"),
        lambda: sandbox.settings("alice", typo=1),
        lambda: sandbox.revoke("alice", "everything"),
    ):
        with pytest.raises(UsageError):
            call()
