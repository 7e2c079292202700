"""The logins in the shapes of GitHub and MiniMax, as `DeviceLogin` drives them and by hand."""

from collections.abc import Callable

import httpx2
import pytest

from tokenferry.credentials import OAuthToken
from tokenferry.errors import LoginFailed
from tokenferry.login import DeviceLogin
from tokenferry.oauth import DeviceCode, OAuthEndpoints
from tokenferry.refresh import send
from tokenferry.sandbox import Sandbox

Confirm = Callable[[DeviceCode], None]


def github(url: str) -> OAuthEndpoints:
    return OAuthEndpoints(
        device_authorization_endpoint=f"{url}/login/device/code",
        token_endpoint=f"{url}/login/oauth/access_token",
        client_id="the-operators-own",
        scopes=("read:user",),
        token_body="form",
    )


def minimax(url: str) -> OAuthEndpoints:
    return OAuthEndpoints(
        device_authorization_endpoint=f"{url}/oauth/code",
        token_endpoint=f"{url}/oauth/token",
        device_grant="user_code",
        client_id="the-operators-own",
        scopes=("model.completion",),
        token_body="form",
    )


def log_in(endpoints: OAuthEndpoints, show: Confirm) -> OAuthToken:
    return DeviceLogin(endpoints, show=show, send=send, sleep=lambda _: None, monotonic=_Hurry()).run()


class _Hurry:
    """A clock on which no poll has to be waited for."""

    def __init__(self) -> None:
        self.time = 0.0

    def __call__(self) -> float:
        self.time += 1.0
        return self.time


@pytest.fixture
def confirm(http: httpx2.Client) -> Confirm:
    def confirm(device: DeviceCode) -> None:
        given = {"user_code": device.user_code, "account": "alice"}
        assert http.post("/oauth/device", data=given).status_code == 200

    return confirm


def exchange(http: httpx2.Client, token: str) -> httpx2.Response:
    return http.get("/copilot_internal/v2/token", headers={"authorization": f"token {token}"})


def test_a_github_login_gives_a_token_that_only_the_exchange_takes(
    http: httpx2.Client, sandbox: Sandbox, confirm: Confirm
) -> None:
    token = log_in(github(sandbox.url), confirm).secret.reveal()
    chat = {"model": "gpt-5", "messages": [{"role": "user", "content": "Hello"}]}
    as_is = http.post("/v1/chat/completions", json=chat, headers={"authorization": f"Bearer {token}"})
    assert as_is.status_code == 401
    given = exchange(http, token).json()
    assert given["endpoints"] == {"api": f"{sandbox.url}/v1"}
    answer = http.post("/v1/chat/completions", json=chat, headers={"authorization": f"Bearer {given['token']}"})
    assert answer.status_code == 200, answer.text
    assert sandbox.counters()["accounts"]["alice"]["exchanges"] == 1


def test_the_exchange_refuses_strangers_and_those_without_a_seat(
    http: httpx2.Client, sandbox: Sandbox, confirm: Confirm
) -> None:
    token = log_in(github(sandbox.url), confirm).secret.reveal()
    assert exchange(http, "gho_other").json()["message"] == "Bad credentials"
    sandbox.settings("alice", exchange=False)
    refused = exchange(http, token)
    assert refused.status_code == 403
    assert "has no access" in refused.json()["error_details"]["message"]


def test_a_minimax_login_is_redeemed_by_the_user_code_and_its_verifier(
    http: httpx2.Client, sandbox: Sandbox, confirm: Confirm
) -> None:
    token = log_in(minimax(sandbox.url), confirm)
    assert token.refresh is not None
    assert token.lifetime is not None
    assert 28_000 < token.lifetime <= 28_800
    given = {"grant_type": "refresh_token", "client_id": "the-operators-own"}
    renewed = http.post("/oauth/token", data=given | {"refresh_token": token.refresh.reveal()})
    assert renewed.json()["status"] == "success", renewed.text


def test_another_verifier_ends_a_minimax_login(http: httpx2.Client, sandbox: Sandbox, confirm: Confirm) -> None:
    def meddle(device: DeviceCode) -> None:
        confirm(device)
        assert http.post("/oauth/code", data=_CODE | {"code_challenge": "x" * 43}).status_code == 200
        given = {"grant_type": "urn:ietf:params:oauth:grant-type:user_code", "client_id": "other"}
        given |= {"user_code": device.user_code, "code_verifier": "y" * 43}
        assert http.post("/oauth/token", data=given).json()["status"] == "error"

    assert log_in(minimax(sandbox.url), meddle).refresh is not None


def test_a_refused_minimax_login_says_why(http: httpx2.Client, sandbox: Sandbox) -> None:
    def deny(device: DeviceCode) -> None:
        given = {"user_code": device.user_code, "deny": "1"}
        assert http.post("/oauth/device", data=given).status_code == 200

    with pytest.raises(LoginFailed, match=r"refused to complete the login: HTTP 200 \(The user said no\.\)"):
        log_in(minimax(sandbox.url), deny)


_CODE = {
    "response_type": "code",
    "client_id": "other",
    "code_challenge_method": "S256",
    "state": "s",
}
