import json
from base64 import b64decode, urlsafe_b64encode
from typing import Any
from urllib.parse import parse_qs

import pytest
from msgspec.structs import replace

from tokenferry.credentials import OAuthToken
from tokenferry.errors import LoginFailed, TryLater
from tokenferry.oauth import (
    Authorization,
    AuthorizationCode,
    HttpOutcome,
    NotSent,
    OAuthEndpoints,
    TokenResponse,
    TokenResponseLost,
    exchange_request,
    read_exchange,
    read_revocation,
    refresh_request,
    revocation_request,
)
from tokenferry.secret import Secret

REDIRECT = "http://localhost:1/callback"
ENDPOINTS = OAuthEndpoints(
    authorization_endpoint="https://idp.example/authorize",
    token_endpoint="https://idp.example/token",
    revocation_endpoint="https://idp.example/revoke",
    client_id="my client",
    scopes=("a", "b"),
    token_body="form",
)
CODE = AuthorizationCode(Secret("the-code-that-was-given"), REDIRECT)
SENT = 1_700_000_000
TOKEN = OAuthToken(Secret("access-token-of-somebody"), Secret("refresh-token-of-somebody"))


def read(transmission: HttpOutcome, endpoints: OAuthEndpoints = ENDPOINTS) -> OAuthToken:
    return read_exchange(transmission, Authorization.begin(endpoints), CODE, SENT + 0.5, SENT + 1)


def answered(**fields: Any) -> TokenResponse:
    return TokenResponse(200, {}, json.dumps({"access_token": "new-access", "expires_in": 60, **fields}).encode())


def test_the_exchange_says_what_the_standard_wants_in_the_declared_encoding() -> None:
    login = Authorization.begin(ENDPOINTS)
    request = exchange_request(login, CODE, None)
    given = {
        "grant_type": "authorization_code",
        "code": "the-code-that-was-given",
        "redirect_uri": REDIRECT,
        "code_verifier": login.verifier.reveal(),
        "client_id": "my client",
    }
    assert request.url == "https://idp.example/token"
    assert {name: values[0] for name, values in parse_qs(request.body.decode()).items()} == given
    login = replace(login, endpoints=replace(ENDPOINTS, token_body="json", state_in_exchange=True))
    request = exchange_request(login, CODE, None, 31_536_000)
    assert json.loads(request.body) == given | {"state": login.state.reveal(), "expires_in": 31_536_000}
    assert "the-code" not in repr(request)


def test_a_client_secret_goes_where_it_is_declared_to() -> None:
    """RFC 6749 2.3.1: each half of the Basic credentials is form-encoded first."""
    login, secret = Authorization.begin(ENDPOINTS), Secret("se:cret%")
    assert b"client_secret=se%3Acret%25" in exchange_request(login, CODE, secret).body
    basic = replace(ENDPOINTS, client_auth="basic")
    for request in (
        exchange_request(replace(login, endpoints=basic), CODE, secret),
        refresh_request(basic, Secret("refresh"), secret),
        revocation_request(basic, TOKEN, secret),
    ):
        assert b"client" not in request.body
        scheme, _, encoded = dict(request.headers)["authorization"].partition(" ")
        assert (scheme, b64decode(encoded)) == ("Basic", b"my+client:se%3Acret%25")
        assert encoded not in repr(request)
    public = exchange_request(replace(login, endpoints=basic), CODE, None)
    assert b"client_id=my+client" in public.body


def test_what_is_granted_is_kept_with_who_it_is_for() -> None:
    token = read(
        answered(
            refresh_token="new-refresh",
            scope="a",
            account={"uuid": "A", "email_address": "me@mail.example"},
            organization={"uuid": "O"},
            refresh_token_expires_in=100,
        )
    )
    assert token == OAuthToken(
        Secret("new-access"),
        Secret("new-refresh"),
        expires_at=SENT + 60,
        scopes=("a",),
        email="me@mail.example",
        account_id="A",
        organization_id="O",
        obtained_at=SENT,
        lifetime=60,
        refresh_expires_at=SENT + 100,
        source="login",
    )


def test_scopes_that_the_answer_leaves_out_are_those_asked_for() -> None:
    assert read(answered()).scopes == ("a", "b")
    assert read(answered()).refresh is None


@pytest.mark.parametrize(("expires_in", "lifetime"), [(None, 3600), (0, 60), (-1, 60), (10**9, 60), ("120", 120)])
def test_an_odd_life_discards_nothing(expires_in: Any, lifetime: int) -> None:
    assert read(answered(expires_in=expires_in)).lifetime == lifetime


@pytest.mark.parametrize(
    ("claims", "expected"),
    [
        ({"sub": "S", "email": "me@mail.example"}, ("S", "me@mail.example")),
        ({"sub": 7}, (None, None)),
        ("no object", (None, None)),
    ],
)
def test_who_it_is_for_may_be_in_an_id_token(claims: Any, expected: tuple[str | None, str | None]) -> None:
    payload = urlsafe_b64encode(json.dumps(claims).encode()).decode().rstrip("=")
    token = read(answered(id_token=f"e30.{payload}.c2ln"))
    assert (token.account_id, token.email) == expected


@pytest.mark.parametrize("id_token", ["", "x", "..", "a.b.c", "é.é.é", 7, None])
def test_an_id_token_that_is_none_costs_nothing(id_token: Any) -> None:
    assert read(answered(id_token=id_token)).account_id is None


@pytest.mark.parametrize(
    ("transmission", "kind", "words"),
    [
        (NotSent("nobody there"), TryLater, "nobody there; log in again later"),
        (TokenResponseLost("it broke"), LoginFailed, "its tokens were lost: it broke"),
        (TokenResponse(503, {"retry-after": "9"}, b""), TryLater, "idp.example could not complete the login: HTTP 503"),
        (TokenResponse(307, {}, b""), LoginFailed, "refused to complete the login: HTTP 307"),
        (TokenResponse(200, {}, b"<html>"), LoginFailed, "no token that can be read"),
        (TokenResponse(200, {}, b"{}"), LoginFailed, "no token that can be read"),
        (TokenResponse(400, {}, b'{"error": "invalid_grant"}'), LoginFailed, "HTTP 400 (invalid_grant)"),
        (TokenResponse(200, {}, b'{"error": "invalid_grant"}'), LoginFailed, "HTTP 200 (invalid_grant)"),
    ],
)
def test_a_failure_is_a_sentence(transmission: HttpOutcome, kind: type[Exception], words: str) -> None:
    with pytest.raises(kind) as caught:
        read(transmission)
    assert words in str(caught.value)
    if isinstance(transmission, TokenResponse) and isinstance(caught.value, TryLater):
        assert caught.value.retry_after == 9.0


def test_a_login_with_a_refresh_token_that_can_not_be_read_keeps_the_access_token() -> None:
    token = read(answered(refresh_token=17))
    assert token.secret == Secret("new-access")
    assert token.refresh is None


# -- revocation


def test_the_refresh_token_is_revoked_for_it_takes_the_others_along() -> None:
    given = parse_qs(revocation_request(ENDPOINTS, TOKEN, None).body.decode())
    assert given == {
        "token": ["refresh-token-of-somebody"],
        "token_type_hint": ["refresh_token"],
        "client_id": ["my client"],
    }
    given = parse_qs(revocation_request(ENDPOINTS, replace(TOKEN, refresh=None), None).body.decode())
    assert given["token"] == ["access-token-of-somebody"]


def test_whether_it_was_revoked_is_reported_without_the_token() -> None:
    assert read_revocation(TokenResponse(200, {}, b""), TOKEN) is None
    assert read_revocation(NotSent("nobody there"), TOKEN) == "nobody there"
    body = json.dumps({"error": "invalid_request", "error_description": "no refresh-token-of-somebody"}).encode()
    assert read_revocation(TokenResponse(400, {}, body), TOKEN) == "HTTP 400 (invalid_request: no [redacted])"
    assert read_revocation(TokenResponse(503, {}, b""), TOKEN) == "HTTP 503"
    assert read_revocation(TokenResponse(200, {}, b'{"error": "server_error"}'), TOKEN) == "HTTP 200 (server_error)"


@pytest.mark.parametrize(
    ("error", "description", "cure"),
    [
        ("invalid_client", "who is that?", "check client_id"),
        ("unauthorized_client", "", "check client_id"),
        ("invalid_grant", "redirect_uri mismatch", "check redirect_uri"),
        ("invalid_grant", "The code_verifier is wrong", "the code belongs to another login"),
        ("invalid_grant", "PKCE failed", "the code belongs to another login"),
        ("invalid_grant", "The authorization code was used before", "the code was used before, has expired"),
        ("invalid_grant", "", "the code was used before, has expired"),
        ("invalid_request", "a redirect, a verifier, anything", "; log in again"),
    ],
)
def test_refusals_are_distinguished_by_the_error_code_first(error: str, description: str, cure: str) -> None:
    with pytest.raises(LoginFailed, match=cure):
        read(TokenResponse(400, {}, json.dumps({"error": error, "error_description": description}).encode()))


@pytest.mark.parametrize("kind", ["Bearer", "bearer", "BEARER", "", None])
def test_a_bearer_token_is_one_whatever_the_case(kind: str | None) -> None:
    assert read(answered(token_type=kind)).secret == Secret("new-access")


@pytest.mark.parametrize("kind", ["mac", "DPoP", "N_A", 5, ["Bearer"]])
def test_a_token_of_another_type_is_no_login(kind: Any) -> None:
    with pytest.raises(LoginFailed) as refused:
        read(answered(token_type=kind))
    assert str(refused.value) == (
        f"idp.example answered the login with a token of type {kind!r}; only Bearer ones can be used"
    )
