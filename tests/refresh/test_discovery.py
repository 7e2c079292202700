import json

import pytest

from tokenferry.errors import RefreshFailed
from tokenferry.oauth import HttpOutcome, NotSent, OAuthEndpoints, TokenRequest, TokenResponse
from tokenferry.refresh import Discovery

ISSUER = "https://idp.example"
ENDPOINTS = OAuthEndpoints(issuer=ISSUER, client_id="client")


class Server:
    def __init__(self, *answers: HttpOutcome) -> None:
        self.asked: list[str] = []
        self.answers = list(answers)
        self.now = 0.0
        self.discovery = Discovery(self.send, monotonic=lambda: self.now)

    def send(self, request: TokenRequest, _timeout: float) -> HttpOutcome:
        self.asked.append(request.url)
        return self.answers.pop(0)


def metadata(**fields: str) -> TokenResponse:
    return TokenResponse(200, {}, json.dumps({"issuer": ISSUER, **fields}).encode())


def test_what_is_declared_costs_no_request() -> None:
    server = Server()
    declared = OAuthEndpoints(issuer=ISSUER, token_endpoint="https://idp.example/token")
    assert server.discovery.complete(declared, "token_endpoint") is declared
    bare = OAuthEndpoints()
    assert server.discovery.complete(bare, "token_endpoint") is bare


def test_it_is_asked_once_a_day() -> None:
    server = Server(*[metadata(token_endpoint="https://idp.example/token")] * 2)
    for _ in range(3):
        assert server.discovery.complete(ENDPOINTS, "token_endpoint").token_endpoint == "https://idp.example/token"
    assert server.asked == ["https://idp.example/.well-known/oauth-authorization-server"]
    server.now += 86_401
    server.discovery.complete(ENDPOINTS, "token_endpoint")
    assert len(server.asked) == 2


def test_the_second_place_counts_where_the_first_has_none() -> None:
    server = Server(TokenResponse(404, {}, b""), metadata(token_endpoint="https://idp.example/token"))
    assert server.discovery.complete(ENDPOINTS, "token_endpoint").token_endpoint == "https://idp.example/token"


def test_a_failure_is_reported_and_not_repeated_at_once() -> None:
    server = Server(*[NotSent("nobody there")] * 4)
    for _ in range(3):
        with pytest.raises(RefreshFailed, match=r"nobody there.*declare token_endpoint") as caught:
            server.discovery.complete(ENDPOINTS, "token_endpoint")
        assert caught.value.retry_after
    assert len(server.asked) == 2
    server.now += 11
    with pytest.raises(RefreshFailed):
        server.discovery.complete(ENDPOINTS, "token_endpoint")
    assert len(server.asked) == 4


def test_what_the_issuer_does_not_say_stays_unsaid() -> None:
    server = Server(metadata())
    assert server.discovery.complete(ENDPOINTS, "token_endpoint").token_endpoint is None
