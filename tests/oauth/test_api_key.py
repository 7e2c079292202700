import json
from typing import Any

import pytest
from msgspec.structs import replace

from leaks import leaks
from tokenferry.credentials import OAuthToken
from tokenferry.errors import LoginFailed, TryLater
from tokenferry.oauth import (
    HttpOutcome,
    OAuthEndpoints,
    TokenResponse,
    TokenResponseLost,
    api_key_request,
    read_api_key,
)
from tokenferry.secret import Secret

ENDPOINTS = OAuthEndpoints(api_key_url="https://api.example/create_api_key")
TOKEN = OAuthToken(Secret("access-token-of-somebody"), Secret("refresh-token-of-somebody"))
KEY = "sk-ant-api03-" + "k" * 60


def answered(status: int, **fields: Any) -> TokenResponse:
    return TokenResponse(status, {}, json.dumps(fields).encode())


def test_it_is_asked_for_with_the_access_token_alone() -> None:
    request = api_key_request(ENDPOINTS, TOKEN)
    assert (request.method, request.url) == ("POST", "https://api.example/create_api_key")
    assert dict(request.headers)["authorization"] == "Bearer access-token-of-somebody"
    assert b"refresh" not in request.body
    assert "access-token" not in repr(request)


def test_the_key_is_read() -> None:
    assert read_api_key(answered(200, raw_key=KEY), ENDPOINTS, TOKEN, 0).secret == Secret(KEY)


@pytest.mark.parametrize(
    ("transmission", "kind", "words"),
    [
        (TokenResponseLost("cut"), TryLater, "may or may not have made an API key"),
        (answered(500, error={"type": "api_error", "message": "no"}), TryLater, "made no API key: HTTP 500"),
        (
            answered(403, error={"type": "permission_error", "message": "This account can't"}),
            LoginFailed,
            "This account",
        ),
        (answered(200, raw_key=None), LoginFailed, "can't be read from its answer"),
        (answered(200, raw_key="with blank"), LoginFailed, "can't be read from its answer"),
        (TokenResponse(200, {}, b"sk-ant"), LoginFailed, "can't be read from its answer"),
    ],
)
def test_no_key_is_a_sentence(transmission: HttpOutcome, kind: type[Exception], words: str) -> None:
    with pytest.raises(kind, match=words) as caught:
        read_api_key(transmission, replace(ENDPOINTS), TOKEN, 0)
    assert not leaks(caught.value, TOKEN.secret.reveal())
