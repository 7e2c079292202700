import json
from typing import Any

import pytest
from msgspec.structs import replace

from tokenferry.credentials import OAuthToken
from tokenferry.oauth import (
    HttpOutcome,
    OAuthEndpoints,
    TokenResponse,
    TokenResponseLost,
    profile_request,
    read_profile,
)
from tokenferry.secret import Secret

TOKEN = OAuthToken(Secret("access-token-of-somebody"), Secret("refresh-token-of-somebody"))


def answered(status: int = 200, /, **fields: Any) -> TokenResponse:
    return TokenResponse(status, {}, json.dumps(fields).encode())


def test_it_is_asked_with_the_access_token_alone() -> None:
    request = profile_request(OAuthEndpoints(profile_url="https://api.example/profile"), TOKEN)
    assert (request.method, request.body) == ("GET", b"")
    assert dict(request.headers)["authorization"] == "Bearer access-token-of-somebody"
    assert "access-token" not in repr(request)


@pytest.mark.parametrize(
    ("fields", "email", "account"),
    [
        ({"account": {"uuid": "A", "email": "a@b.example"}, "organization": {"uuid": "O"}}, "a@b.example", "A"),
        ({"account": {"uuid": "A", "email_address": "a@b.example"}}, "a@b.example", "A"),
        ({"sub": "A", "email": "a@b.example"}, "a@b.example", "A"),
        ({"account": "x", "email": ["y"], "sub": 7}, None, None),
    ],
)
def test_the_vendors_profile_and_userinfo_are_read(fields: Any, email: str | None, account: str | None) -> None:
    found = read_profile(answered(**fields), TOKEN)
    assert (found.email, found.account_id) == (email, account)
    assert (found.secret, found.refresh) == (TOKEN.secret, TOKEN.refresh)


def test_what_is_known_stays() -> None:
    known = replace(TOKEN, email="me@b.example", account_id="M")
    found = read_profile(answered(account={"uuid": "A", "email": "a@b.example"}, organization={"uuid": "O"}), known)
    assert (found.email, found.account_id, found.organization_id) == ("me@b.example", "M", "O")


@pytest.mark.parametrize(
    "transmission", [TokenResponseLost("cut"), answered(403, sub="A"), TokenResponse(200, {}, b"<html>")]
)
def test_no_profile_changes_nothing(transmission: HttpOutcome) -> None:
    assert read_profile(transmission, TOKEN) == TOKEN
