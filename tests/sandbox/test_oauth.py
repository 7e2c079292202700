import base64
from collections.abc import Callable
from typing import Any

import httpx2
import pytest

from tokenferry.sandbox import Sandbox

Say = Callable[..., httpx2.Response]
Headers = Callable[[str], dict[str, str]]
FORM = {"content-type": "application/x-www-form-urlencoded"}


def error(answer: httpx2.Response) -> str:
    document = answer.json()
    assert document["error_description"]
    return str(document["error"])


def test_a_login_with_pkce_gives_tokens_that_work(login: Any, say: Say, bearer: Headers) -> None:
    answer = login.exchange(login.authorize()["code"])
    assert answer.status_code == 200
    assert answer.headers["cache-control"] == "no-store"
    given = answer.json()
    assert given["token_type"] == "Bearer"
    assert given["access_token"].startswith("sk-ant-oat01-sandbox-")
    assert given["refresh_token"].startswith("sk-ant-ort01-sandbox-")
    assert len(given["access_token"]) >= len("sk-ant-oat01-") + 90
    assert given["expires_in"] == 28_800
    assert given["refresh_token_expires_in"] == 2_592_000
    assert given["scope"] == "org:create_api_key user:profile user:inference"
    assert given["account"]["email_address"] == "alice@example.com"
    assert set(given["organization"]) == {"uuid", "name"}
    assert say(headers=bearer(given["access_token"])).status_code == 200


def test_a_form_serves_as_well_as_json(login: Any, http: httpx2.Client) -> None:
    given = {
        "grant_type": "authorization_code",
        "code": login.authorize()["code"],
        "client_id": "sandbox-client",
        "redirect_uri": "http://localhost:54321/callback",
        "code_verifier": "v" * 43,
    }
    first = http.post("/v1/oauth/token", data=given)
    assert first.status_code == 200
    again = {
        "grant_type": "refresh_token",
        "refresh_token": first.json()["refresh_token"],
        "client_id": "sandbox-client",
    }
    assert http.post("/v1/oauth/token", data=again).status_code == 200


@pytest.mark.parametrize(
    "change",
    [
        {"code_verifier": "w" * 43},
        {"redirect_uri": "http://localhost:54322/callback"},
        {"client_id": "another-client"},
        {"state": "another"},
        {"code": "forged"},
    ],
    ids=lambda change: next(iter(change)),
)
def test_a_code_is_bound_to_all_of_its_request(change: dict[str, str], login: Any) -> None:
    answer = login.exchange(**{"code": login.authorize()["code"]} | change)
    assert (answer.status_code, error(answer)) == (400, "invalid_grant")


def test_the_state_may_be_left_out_of_the_exchange(login: Any, http: httpx2.Client) -> None:
    given = {
        "grant_type": "authorization_code",
        "code": login.authorize()["code"],
        "client_id": "sandbox-client",
        "redirect_uri": "http://localhost:54321/callback",
        "code_verifier": "v" * 43,
    }
    assert http.post("/v1/oauth/token", json=given).status_code == 200


def test_a_failed_verifier_burns_the_code(login: Any) -> None:
    code = login.authorize()["code"]
    login.exchange(code, code_verifier="w" * 43)
    assert error(login.exchange(code)) == "invalid_grant"


def test_a_code_expires_after_ten_minutes(login: Any, sandbox: Sandbox) -> None:
    code = login.authorize()["code"]
    sandbox.advance(601)
    assert error(login.exchange(code)) == "invalid_grant"


def test_a_reused_code_revokes_what_it_gave(login: Any, say: Say, bearer: Headers) -> None:
    code = login.authorize()["code"]
    given = login.exchange(code).json()
    assert error(login.exchange(code)) == "invalid_grant"
    assert say(headers=bearer(given["access_token"])).status_code == 401
    assert error(login.refresh(given["refresh_token"])) == "invalid_grant"


def test_a_refresh_rotates(login: Any, sandbox: Sandbox, say: Say, bearer: Headers) -> None:
    first = login.tokens()
    second = login.refresh(first["refresh_token"]).json()
    assert second["refresh_token"] != first["refresh_token"]
    assert say(headers=bearer(first["access_token"])).status_code == 200
    assert say(headers=bearer(second["access_token"])).status_code == 200
    counted = sandbox.counters()["accounts"]["alice"]
    assert (counted["refreshes"], counted["grants"], counted["reuses"]) == (1, 2, 0)


def test_a_used_refresh_token_revokes_the_whole_login(login: Any, sandbox: Sandbox, say: Say, bearer: Headers) -> None:
    first = login.tokens()
    other = login.tokens()
    second = login.refresh(first["refresh_token"]).json()
    assert error(login.refresh(first["refresh_token"])) == "invalid_grant"
    assert say(headers=bearer(second["access_token"])).status_code == 401
    assert error(login.refresh(second["refresh_token"])) == "invalid_grant"
    assert say(headers=bearer(other["access_token"])).status_code == 200
    counted = sandbox.counters()["accounts"]["alice"]
    assert (counted["reuses"], counted["families_revoked"], counted["refreshes_failed"]) == (1, 1, 2)


def test_within_the_grace_a_used_refresh_token_gives_another_pair(login: Any, sandbox: Sandbox) -> None:
    sandbox.settings("alice", reuse_grace=30)
    first = login.tokens()
    second, third = login.refresh(first["refresh_token"]), login.refresh(first["refresh_token"])
    assert second.json()["refresh_token"] != third.json()["refresh_token"]
    sandbox.advance(31)
    assert error(login.refresh(first["refresh_token"])) == "invalid_grant"
    assert error(login.refresh(third.json()["refresh_token"])) == "invalid_grant"


def test_without_rotation_the_refresh_token_stays_and_is_not_repeated(login: Any, sandbox: Sandbox) -> None:
    sandbox.settings("alice", rotation=False)
    held = login.tokens()["refresh_token"]
    for _ in range(2):
        answer = login.refresh(held)
        assert answer.status_code == 200
        assert "refresh_token" not in answer.json()


def test_a_refresh_may_end_older_access_tokens(login: Any, sandbox: Sandbox, say: Say, bearer: Headers) -> None:
    sandbox.settings("alice", refresh_revokes_access=True)
    first = login.tokens()
    second = login.refresh(first["refresh_token"]).json()
    assert say(headers=bearer(first["access_token"])).status_code == 401
    assert say(headers=bearer(second["access_token"])).status_code == 200


def test_tokens_expire_by_the_sandbox_clock(login: Any, sandbox: Sandbox, say: Say, bearer: Headers) -> None:
    sandbox.settings("alice", token_lifetime=60, refresh_lifetime=120)
    given = login.tokens()
    sandbox.advance(61)
    refused = say(headers=bearer(given["access_token"]))
    assert refused.status_code == 401
    assert "expired" in refused.json()["error"]["message"]
    sandbox.advance(60)
    assert error(login.refresh(given["refresh_token"])) == "invalid_grant"


def test_a_refresh_may_narrow_the_scopes_and_not_widen_them(login: Any) -> None:
    given = login.tokens(scope="user:inference user:profile")
    assert error(login.refresh(given["refresh_token"], scope="org:create_api_key")) == "invalid_scope"
    narrowed = login.refresh(given["refresh_token"], scope="user:profile")
    assert narrowed.json()["scope"] == "user:profile"
    assert login.refresh(narrowed.json()["refresh_token"]).json()["scope"] == "user:profile user:inference"


def test_a_refresh_token_belongs_to_its_client(login: Any) -> None:
    given = login.tokens()
    assert error(login.refresh(given["refresh_token"], client_id="another")) == "invalid_grant"
    assert login.refresh(given["refresh_token"]).status_code == 200


def test_a_token_answer_can_be_made_odd(login: Any, sandbox: Sandbox) -> None:
    sandbox.settings("alice", token_answer={"expires_in": None, "scope": None, "extra": 1})
    given = login.tokens()
    assert "expires_in" not in given
    assert "scope" not in given
    assert given["extra"] == 1


def test_a_setup_token_lives_as_asked_and_has_no_refresh_token(
    login: Any,
    sandbox: Sandbox,
    say: Say,
    bearer: Headers,
) -> None:
    code = login.authorize(scope="user:inference")["code"]
    given = login.exchange(code, expires_in=31_536_000).json()
    assert given["expires_in"] == 31_536_000
    assert "refresh_token" not in given
    sandbox.advance(31_000_000)
    assert say(headers=bearer(given["access_token"])).status_code == 200


@pytest.mark.parametrize(("scope", "expires_in"), [("user:inference user:profile", 60), ("user:inference", 31_536_001)])
def test_a_lifetime_goes_with_inference_alone_up_to_a_year(scope: str, expires_in: int, login: Any) -> None:
    answer = login.exchange(login.authorize(scope=scope)["code"], expires_in=expires_in)
    assert error(answer) == "invalid_request"


def test_a_confidential_client_proves_itself_by_basic_or_body(login: Any, http: httpx2.Client) -> None:
    name, secret = "sandbox-confidential", "sandbox-client-secret"
    given = login.exchange(login.authorize(client_id=name)["code"], client_id=name, client_secret=secret)
    assert given.status_code == 200
    body = {"grant_type": "refresh_token", "refresh_token": given.json()["refresh_token"]}
    basic = base64.b64encode(f"{name}:{secret}".encode()).decode()
    assert http.post("/v1/oauth/token", data=body, headers={"authorization": f"Basic {basic}"}).status_code == 200


def test_a_confidential_client_without_its_secret_is_refused_and_the_code_lives_on(login: Any) -> None:
    name = "sandbox-confidential"
    code = login.authorize(client_id=name)["code"]
    answer = login.exchange(code, client_id=name, client_secret="wrong")
    assert (answer.status_code, error(answer)) == (401, "invalid_client")
    assert answer.headers["www-authenticate"].startswith("Basic")
    assert login.exchange(code, client_id=name, client_secret="sandbox-client-secret").status_code == 200


def test_basic_and_body_must_name_the_same_client(http: httpx2.Client) -> None:
    basic = base64.b64encode(b"one:").decode()
    answer = http.post("/v1/oauth/token", data={"client_id": "two"}, headers={"authorization": f"Basic {basic}"})
    assert error(answer) == "invalid_request"


@pytest.mark.parametrize(
    ("body", "headers", "expected"),
    [
        (b"grant_type=refresh_token&refresh_token=a&refresh_token=b", FORM, "invalid_request"),
        (b"{", {"content-type": "application/json"}, "invalid_request"),
        (b"[]", {"content-type": "application/json"}, "invalid_request"),
        (b'{"grant_type": 1}', {"content-type": "application/json"}, "invalid_request"),
        (b"grant_type=refresh_token", {"content-type": "text/plain"}, "invalid_request"),
        (b"", FORM, "invalid_request"),
        (b"grant_type=password", FORM, "unsupported_grant_type"),
        (b"grant_type=refresh_token", FORM, "invalid_request"),
        (b"grant_type=refresh_token&refresh_token=unknown", FORM, "invalid_grant"),
    ],
)
def test_a_request_that_makes_no_sense_is_a_400(
    body: bytes,
    headers: dict[str, str],
    expected: str,
    http: httpx2.Client,
) -> None:
    answer = http.post("/v1/oauth/token", content=body, headers=headers)
    assert (answer.status_code, error(answer)) == (400, expected)


def test_revoking_a_refresh_token_ends_the_login(login: Any, http: httpx2.Client, say: Say, bearer: Headers) -> None:
    given = login.tokens()
    body = {"token": given["refresh_token"], "token_type_hint": "refresh_token", "client_id": "sandbox-client"}
    assert http.post("/v1/oauth/token/revoke", json=body).status_code == 200
    assert say(headers=bearer(given["access_token"])).status_code == 401
    assert error(login.refresh(given["refresh_token"])) == "invalid_grant"


def test_revoking_an_access_token_ends_it_alone(
    login: Any,
    http: httpx2.Client,
    sandbox: Sandbox,
    say: Say,
    bearer: Headers,
) -> None:
    given = login.tokens()
    body = {"token": given["access_token"], "client_id": "sandbox-client"}
    assert http.post("/v1/oauth/token/revoke", data=body).status_code == 200
    assert say(headers=bearer(given["access_token"])).status_code == 401
    assert login.refresh(given["refresh_token"]).status_code == 200
    assert sandbox.counters()["accounts"]["alice"]["revocations"] == 1


@pytest.mark.parametrize("client_id", ["sandbox-client", "another"])
def test_revoking_what_is_unknown_or_another_clients_changes_nothing(
    client_id: str,
    login: Any,
    http: httpx2.Client,
) -> None:
    given = login.tokens()
    token = "unknown" if client_id == "sandbox-client" else given["refresh_token"]
    assert http.post("/v1/oauth/token/revoke", json={"token": token, "client_id": client_id}).status_code == 200
    assert login.refresh(given["refresh_token"]).status_code == 200


def test_the_metadata_names_endpoints_of_the_same_origin(http: httpx2.Client, sandbox: Sandbox) -> None:
    found = http.get("/.well-known/oauth-authorization-server").json()
    assert found["issuer"] == sandbox.url
    assert found["code_challenge_methods_supported"] == ["S256"]
    endpoints = [value for name, value in found.items() if name.endswith("_endpoint")]
    assert len(endpoints) == 4
    for endpoint in endpoints:
        assert endpoint.startswith(sandbox.url + "/")
        assert http.post(endpoint).status_code != 404
