import json
from typing import Any

import pytest
from msgspec.structs import replace

from tokenferry.oauth import OAuthEndpoints, TokenResponse, TokenResponseLost, metadata_requests, read_metadata
from tokenferry.providers import url_fault

ISSUER = "https://idp.example/tenant"
ENDPOINTS = OAuthEndpoints(issuer=ISSUER, client_id="client")
METADATA = {
    "issuer": ISSUER,
    "authorization_endpoint": "https://idp.example/auth",
    "token_endpoint": "https://idp.example/token",
    "revocation_endpoint": "https://idp.example/revoke",
}


def read(endpoints: OAuthEndpoints = ENDPOINTS, **changes: Any) -> OAuthEndpoints | str:
    return read_metadata(TokenResponse(200, {}, json.dumps(METADATA | changes).encode()), endpoints, url_fault)


@pytest.mark.parametrize(
    ("issuer", "urls"),
    [
        (
            "https://idp.example",
            [
                "https://idp.example/.well-known/oauth-authorization-server",
                "https://idp.example/.well-known/openid-configuration",
            ],
        ),
        (
            "https://idp.example/tenant/",
            [
                "https://idp.example/.well-known/oauth-authorization-server/tenant",
                "https://idp.example/tenant/.well-known/openid-configuration",
            ],
        ),
    ],
)
def test_it_is_looked_for_in_both_standard_places(issuer: str, urls: list[str]) -> None:
    requests = metadata_requests(issuer)
    assert [one.url for one in requests] == urls
    assert {(one.method, one.body) for one in requests} == {("GET", b"")}


def test_what_is_not_declared_is_filled_in_and_what_is_stays() -> None:
    assert read() == replace(
        ENDPOINTS,
        authorization_endpoint="https://idp.example/auth",
        token_endpoint="https://idp.example/token",
        revocation_endpoint="https://idp.example/revoke",
    )
    own = replace(ENDPOINTS, token_endpoint="https://own.example/token")
    found = read(own, authorization_response_iss_parameter_supported=True)
    assert isinstance(found, OAuthEndpoints)
    assert (found.token_endpoint, found.names_issuer) == ("https://own.example/token", True)


@pytest.mark.parametrize("issuer", ["https://idp.example", ISSUER + "/", "https://evil.example", None, 7])
def test_metadata_of_another_issuer_counts_for_nothing(issuer: Any) -> None:
    assert read(issuer=issuer) == "it names another issuer"


@pytest.mark.parametrize(
    "url", ["http://idp.example/token", "https://user@idp.example/", "file:///x", "https://169.254.169.254/"]
)
def test_an_endpoint_must_be_one_that_could_be_declared(url: str) -> None:
    assert read(token_endpoint=url) == "its token_endpoint is not a URL that can be used"


def test_anything_else_is_reported() -> None:
    assert read_metadata(TokenResponseLost("it broke"), ENDPOINTS, url_fault) == "it broke"
    assert read_metadata(TokenResponse(404, {}, b"{}"), ENDPOINTS, url_fault) == "HTTP 404"
    assert read_metadata(TokenResponse(200, {}, b"<html>"), ENDPOINTS, url_fault) == "HTTP 200 without a JSON object"
