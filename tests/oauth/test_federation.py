import json
from typing import Any
from urllib.parse import parse_qs

import pytest

from tokenferry.credentials import FederatedToken, Federation, OAuthToken
from tokenferry.oauth import (
    Granted,
    HttpOutcome,
    NotGranted,
    NotSent,
    OAuthEndpoints,
    TokenResponse,
    TokenResponseLost,
    federation_request,
    read_federation,
    refresh_request,
)
from tokenferry.providers import builtin_providers
from tokenferry.secret import Secret

IDENTITY = Secret("eyJhbGciOiJub25lIn0.eyJzdWIiOiJ3b3JrbG9hZCJ9.the-signature")
FEDERATION = Federation(file="/token", parameters=(("federation_rule_id", "rule"), ("organization_id", "org")))
OLD = FederatedToken(Secret("access-old"), expires_at=10, email="a@b.example", federation=FEDERATION)
FEDERATION_BETA = "oidc-federation-2026-04-01"


def answered(status: int = 200, /, **fields: Any) -> TokenResponse:
    return TokenResponse(status, {}, json.dumps(fields).encode())


def read(transmission: HttpOutcome, old: FederatedToken | Federation = OLD) -> Granted | NotGranted:
    return read_federation(transmission, old, IDENTITY, 1000.5, 1001)


def test_the_vendors_exchange_is_that_of_its_sdks() -> None:
    """The same endpoint, body and betas as in anthropic 2.x, and no scope."""
    endpoints = builtin_providers()["anthropic"].endpoints
    request = federation_request(endpoints, FEDERATION, IDENTITY, None)
    assert request.url == "https://api.anthropic.com/v1/oauth/token"
    assert json.loads(request.body) == {
        "grant_type": "urn:ietf:params:oauth:grant-type:jwt-bearer",
        "assertion": IDENTITY.reveal(),
        "federation_rule_id": "rule",
        "organization_id": "org",
    }
    headers = dict(request.headers)
    assert headers["anthropic-beta"] == "oauth-2025-04-20,oidc-federation-2026-04-01"
    assert headers["content-type"] == "application/json"
    assert "the-signature" not in repr(request)


@pytest.mark.parametrize("name", ["anthropic", "sandbox"])
def test_the_federations_beta_is_never_on_a_refresh_grant(name: str) -> None:
    endpoints = builtin_providers()[name].endpoints
    assert FEDERATION_BETA in dict(federation_request(endpoints, FEDERATION, IDENTITY, None).headers)["anthropic-beta"]
    endpoints = OAuthEndpoints(
        token_endpoint="https://idp.example/token", federation_headers=endpoints.federation_headers
    )
    request = refresh_request(endpoints, Secret("refresh"), None)
    assert FEDERATION_BETA not in str(request.headers)
    assert FEDERATION_BETA.encode() not in request.body


def test_a_standard_server_is_asked_in_its_own_way_and_what_the_account_says_goes_first() -> None:
    endpoints = OAuthEndpoints(
        token_endpoint="https://idp.example/token",
        client_id="my client",
        scopes=("a", "b"),
        token_body="form",
        client_auth="basic",
        federation_parameters=(("organization_id", "declared"), ("audience", "api"), ("grant_type", "other")),
    )
    request = federation_request(endpoints, FEDERATION, IDENTITY, Secret("s3cret"))
    assert request.url == "https://idp.example/token"
    assert {name: values[0] for name, values in parse_qs(request.body.decode()).items()} == {
        "grant_type": "urn:ietf:params:oauth:grant-type:jwt-bearer",
        "assertion": IDENTITY.reveal(),
        "federation_rule_id": "rule",
        "organization_id": "org",
        "audience": "api",
        "scope": "a b",
    }
    assert dict(request.headers)["authorization"].startswith("Basic ")


def test_a_grant_keeps_what_was_known_and_takes_no_refresh_token() -> None:
    outcome = read(answered(access_token="access-new", refresh_token="refresh-new", expires_in=600))
    assert isinstance(outcome, Granted)
    token = outcome.token
    assert isinstance(token, FederatedToken)
    assert (token.secret, token.refresh) == (Secret("access-new"), None)
    assert (token.expires_at, token.lifetime, token.email, token.source) == (1600, 600, "a@b.example", "refresh")
    assert token.federation == FEDERATION
    first = read(answered(access_token="access-new", expires_in=600), FEDERATION)
    assert isinstance(first, Granted)
    assert isinstance(first.token, FederatedToken)
    assert (first.token.source, first.token.federation) == ("login", FEDERATION)
    assert isinstance(first.token, OAuthToken)


@pytest.mark.parametrize(
    ("transmission", "words"),
    [
        (NotSent("no route"), "no route"),
        (TokenResponseLost("cut"), "cut"),
        (TokenResponse(200, {}, b"<html>"), "the answer could not be read"),
        (answered(token="x"), "the answer could not be read"),
        (answered(access_token="access-new", token_type="DPoP"), "for one of type 'DPoP', and only Bearer ones"),
        (answered(401, error="invalid_grant", error_description="No rule."), "HTTP 401 (invalid_grant: No rule.)"),
        (answered(503), "HTTP 503"),
    ],
)
def test_whatever_is_no_grant_leaves_everything_as_it_was(transmission: HttpOutcome, words: str) -> None:
    """Also an invalid_grant: the platform may issue a better identity token at any moment."""
    outcome = read(transmission)
    assert isinstance(outcome, NotGranted)
    assert words in outcome.reason


def test_the_servers_words_show_no_token() -> None:
    outcome = read(answered(400, error=f"bad {IDENTITY.reveal()}", error_description="for access-old"))
    assert isinstance(outcome, NotGranted)
    assert "the-signature" not in outcome.reason
    assert "access-old" not in outcome.reason
    assert read(TokenResponse(429, {"retry-after": "7"}, b"")) == NotGranted(
        "its identity token was not exchanged: HTTP 429", 7.0
    )
