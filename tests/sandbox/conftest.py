import base64
import hashlib
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Any
from urllib.parse import parse_qsl, urlsplit

import httpx2
import pytest

from tokenferry.sandbox import Sandbox

REDIRECT = "http://localhost:54321/callback"
VERIFIER = "v" * 43


def challenge(verifier: str = VERIFIER) -> str:
    return base64.urlsafe_b64encode(hashlib.sha256(verifier.encode()).digest()).decode().rstrip("=")


@dataclass
class Login:
    """A person with a browser and a client that uses PKCE."""

    http: httpx2.Client

    def parameters(self, **changes: str | None) -> dict[str, str]:
        given: dict[str, str | None] = {
            "code": "true",
            "client_id": "sandbox-client",
            "response_type": "code",
            "redirect_uri": REDIRECT,
            "scope": "org:create_api_key user:profile user:inference",
            "code_challenge": challenge(),
            "code_challenge_method": "S256",
            "state": "a1b2c3",
        }
        return {name: value for name, value in (given | changes).items() if value is not None}

    def authorize(self, account: str = "alice", **changes: str | None) -> dict[str, str]:
        """What comes back in the redirect."""
        answer = self.http.get("/oauth/authorize", params=self.parameters(login_hint=account, **changes))
        assert answer.status_code == 302, answer.text
        return dict(parse_qsl(urlsplit(answer.headers["location"]).query))

    def exchange(self, code: str, **changes: Any) -> httpx2.Response:
        given = {
            "grant_type": "authorization_code",
            "code": code,
            "state": "a1b2c3",
            "client_id": "sandbox-client",
            "redirect_uri": REDIRECT,
            "code_verifier": VERIFIER,
        }
        return self.http.post("/v1/oauth/token", json=given | changes)

    def tokens(self, account: str = "alice", **changes: str | None) -> dict[str, Any]:
        answer = self.exchange(self.authorize(account, **changes)["code"])
        assert answer.status_code == 200, answer.text
        document: dict[str, Any] = answer.json()
        return document

    def refresh(self, refresh_token: str, **changes: Any) -> httpx2.Response:
        given = {"grant_type": "refresh_token", "refresh_token": refresh_token, "client_id": "sandbox-client"}
        return self.http.post("/v1/oauth/token", json=given | changes)


@pytest.fixture
def sandbox(tokenferry_sandbox: Sandbox) -> Sandbox:
    return tokenferry_sandbox


@pytest.fixture
def http(sandbox: Sandbox) -> Iterator[httpx2.Client]:
    with httpx2.Client(base_url=sandbox.url, timeout=20) as client:
        yield client


@pytest.fixture
def login(http: httpx2.Client) -> Login:
    return Login(http)


@pytest.fixture
def say(sandbox: Sandbox, http: httpx2.Client) -> Callable[..., httpx2.Response]:
    """Post a message with an API key, unless told otherwise."""

    def post(text: str = "hi", *, key: str | None = None, headers: dict[str, str] | None = None, **body: Any) -> Any:
        given = {"model": "claude-x", "max_tokens": 100, "messages": [{"role": "user", "content": text}]}
        sent = {"anthropic-version": "2023-06-01", "x-api-key": key or sandbox.api_key("alice")} | (headers or {})
        return http.post(
            "/v1/messages",
            headers={name: value for name, value in sent.items() if value},
            json={name: value for name, value in (given | body).items() if value is not None},
        )

    return post


def oauth(token: str) -> dict[str, str]:
    return {"authorization": f"Bearer {token}", "anthropic-beta": "oauth-2025-04-20", "x-api-key": ""}


@pytest.fixture
def bearer() -> Callable[[str], dict[str, str]]:
    return oauth
