from html import unescape
from typing import Any
from urllib.parse import parse_qsl, urlsplit

import httpx2
import pytest

from tokenferry.sandbox import Sandbox

NASTY = "'\"><img src=x onerror=alert(1)>"


def test_the_page_offers_every_account_that_can_log_in(login: Any, http: httpx2.Client) -> None:
    answer = http.get("/oauth/authorize", params=login.parameters())
    assert answer.status_code == 200
    assert answer.headers["cache-control"] == "no-store"
    assert "default-src 'none'" in answer.headers["content-security-policy"]
    for name in ("alice", "bob", "carol"):
        assert f'name=account value="{name}"' in answer.text
    assert "dave" not in answer.text


def test_a_choice_on_the_page_leads_back_with_code_state_and_issuer(
    login: Any,
    http: httpx2.Client,
    sandbox: Sandbox,
) -> None:
    answer = http.post("/cai/oauth/authorize", data=login.parameters(account="bob"))
    assert answer.status_code == 302
    location = answer.headers["location"]
    assert location.startswith("http://localhost:54321/callback?")
    given = dict(parse_qsl(urlsplit(location).query))
    assert (given["state"], given["iss"]) == ("a1b2c3", sandbox.url)
    assert login.exchange(given["code"]).json()["account"]["email_address"] == "bob@example.com"


def test_account_and_approve_skip_the_page_and_account_alone_does_not(login: Any, http: httpx2.Client) -> None:
    skipped = http.get("/oauth/authorize", params=login.parameters(account="carol", approve="1"))
    assert skipped.status_code == 302
    assert http.get("/oauth/authorize", params=login.parameters(account="carol")).status_code == 200


@pytest.mark.parametrize("changes", [{"deny": "1"}, {"account": "dave"}, {"account": "mallory"}])
def test_a_refusal_leads_back_as_access_denied(changes: dict[str, str], login: Any, http: httpx2.Client) -> None:
    answer = http.post("/oauth/authorize", data=login.parameters(**changes))
    given = dict(parse_qsl(urlsplit(answer.headers["location"]).query))
    assert (given["error"], given["state"]) == ("access_denied", "a1b2c3")
    assert "code" not in given


@pytest.mark.parametrize(
    ("changes", "expected"),
    [
        ({"response_type": "token"}, "unsupported_response_type"),
        ({"code_challenge_method": "plain"}, "invalid_request"),
        ({"code_challenge_method": None}, "invalid_request"),
        ({"code_challenge": "short"}, "invalid_request"),
        ({"scope": "unheard:of"}, "invalid_scope"),
    ],
)
def test_a_wrong_request_leads_back_with_an_error(changes: dict[str, str], expected: str, login: Any) -> None:
    given = login.authorize(**changes)
    assert given["error"] == expected
    assert given["state"] == "a1b2c3"


@pytest.mark.parametrize(
    "uri",
    [
        "http://127.0.0.1:8123/any/path?kept=1",
        "http://[::1]:8123/callback",
        "http://localhost:8123/callback",
    ],
)
def test_loopback_redirects_are_allowed_as_they_are(uri: str, login: Any, http: httpx2.Client) -> None:
    answer = http.get("/oauth/authorize", params=login.parameters(login_hint="alice", redirect_uri=uri))
    assert answer.status_code == 302
    assert answer.headers["location"].startswith(uri + ("&" if "?" in uri else "?") + "code=")


@pytest.mark.parametrize(
    "uri",
    [
        "",
        "https://example.com/callback",
        "http://example.com:80/callback",
        "http://localhost/callback",
        "http://localhost:8123/elsewhere",
        "http://localhost:8123@example.com/callback",
        "http://user@127.0.0.1:8123/callback",
        "http://127.0.0.1:8123/callback#fragment",
        "http://127.0.0.1:99999/callback",
        "http://127.0.0.1:8123/call\r\nback",
        "http://127.0.0.1.example.com:8123/callback",
        "javascript:alert(1)",
        "{own}/_sandbox/reset",
    ],
)
def test_any_other_redirect_is_refused_on_a_page_and_never_followed(
    uri: str,
    login: Any,
    http: httpx2.Client,
    sandbox: Sandbox,
) -> None:
    given = login.parameters(login_hint="alice", redirect_uri=uri.format(own=sandbox.url))
    answer = http.get("/oauth/authorize", params=given)
    assert answer.status_code == 400
    assert "location" not in answer.headers


def test_the_hosted_page_shows_code_and_state(login: Any, http: httpx2.Client, sandbox: Sandbox) -> None:
    redirect_uri = f"{sandbox.url}/oauth/code/callback"
    given = login.parameters(login_hint="alice", redirect_uri=redirect_uri)
    page = http.get("/oauth/authorize", params=given, follow_redirects=True)
    shown = unescape(page.text.partition("<pre id=code>")[2].partition("</pre>")[0])
    code, _, state = shown.partition("#")
    assert state == "a1b2c3"
    assert login.exchange(code, redirect_uri=redirect_uri).status_code == 200


def test_pages_escape_what_they_show(login: Any, http: httpx2.Client) -> None:
    pages = [
        http.get("/oauth/code/callback", params={"code": NASTY, "state": NASTY}),
        http.get("/oauth/code/callback", params={"error": NASTY, "error_description": NASTY}),
        http.get("/oauth/authorize", params=login.parameters(client_id=NASTY, state=NASTY)),
        http.get("/oauth/device", params={"user_code": NASTY}),
    ]
    for page in pages:
        assert "onerror" in page.text
        assert "<img" not in page.text
        assert NASTY in unescape(page.text)


@pytest.fixture
def device(http: httpx2.Client) -> dict[str, Any]:
    given: dict[str, Any] = http.post("/oauth/device_authorization", data={"client_id": "sandbox-client"}).json()
    return given


def poll(http: httpx2.Client, device: dict[str, Any], client_id: str = "sandbox-client") -> Any:
    grant = "urn:ietf:params:oauth:grant-type:device_code"
    given = {"grant_type": grant, "device_code": device["device_code"], "client_id": client_id}
    return http.post("/v1/oauth/token", data=given)


def test_a_device_logs_in_once_its_code_is_approved(
    http: httpx2.Client,
    sandbox: Sandbox,
    device: dict[str, Any],
) -> None:
    assert device["verification_uri"] == f"{sandbox.url}/oauth/device"
    assert device["user_code"] in device["verification_uri_complete"]
    assert (device["interval"], device["expires_in"]) == (5, 600)
    pending = poll(http, device)
    assert (pending.status_code, pending.json()["error"]) == (400, "authorization_pending")
    page = http.get(device["verification_uri_complete"])
    assert device["user_code"] in page.text
    done = http.post("/oauth/device", data={"user_code": device["user_code"].lower(), "account": "bob"})
    assert done.status_code == 200
    sandbox.advance(6)
    given = poll(http, device)
    assert given.json()["account"]["email_address"] == "bob@example.com"
    sandbox.advance(6)
    assert poll(http, device).json()["error"] == "invalid_grant"


def test_seeing_the_device_page_approves_nothing(http: httpx2.Client, device: dict[str, Any]) -> None:
    http.get(device["verification_uri_complete"])
    assert poll(http, device).json()["error"] == "authorization_pending"


def test_polling_too_soon_slows_the_device_down(http: httpx2.Client, sandbox: Sandbox, device: dict[str, Any]) -> None:
    poll(http, device)
    assert poll(http, device).json()["error"] == "slow_down"
    sandbox.advance(6)
    assert poll(http, device).json()["error"] == "slow_down"
    sandbox.advance(16)
    assert poll(http, device).json()["error"] == "authorization_pending"


def test_a_denied_device_hears_so(http: httpx2.Client, device: dict[str, Any]) -> None:
    http.post("/oauth/device", data={"user_code": device["user_code"], "deny": "1"})
    assert poll(http, device).json()["error"] == "access_denied"
    assert http.post("/oauth/device", data={"user_code": device["user_code"], "account": "bob"}).status_code == 409


def test_a_device_code_expires(http: httpx2.Client, sandbox: Sandbox, device: dict[str, Any]) -> None:
    sandbox.advance(601)
    assert poll(http, device).json()["error"] == "expired_token"
    assert http.post("/oauth/device", data={"user_code": device["user_code"], "account": "bob"}).status_code == 404


def test_a_device_code_belongs_to_its_client(http: httpx2.Client, device: dict[str, Any]) -> None:
    assert poll(http, device, "another").json()["error"] == "invalid_grant"


def test_a_device_may_leave_out_its_client_id(http: httpx2.Client) -> None:
    device = http.post("/oauth/device_authorization", data={"surface": "claude_code"}).json()
    http.post("/oauth/device", data={"user_code": device["user_code"], "account": "alice"})
    assert poll(http, device).status_code == 200


@pytest.mark.parametrize(
    ("given", "status"), [({"account": "dave"}, 400), ({"user_code": "BBBB-BBBB"}, 404), ({}, 400)]
)
def test_a_device_answer_that_makes_no_sense_is_refused(
    given: dict[str, str],
    status: int,
    http: httpx2.Client,
    device: dict[str, Any],
) -> None:
    known = {"user_code": device["user_code"]} if "account" in given else {}
    assert http.post("/oauth/device", data=known | given).status_code == status
