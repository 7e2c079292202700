import json
from typing import Any
from urllib.parse import parse_qs

import pytest
from hypothesis import given
from hypothesis import strategies as st

from leaks import shows
from tokenferry.credentials import ExchangedToken
from tokenferry.oauth import (
    Denied,
    Granted,
    HttpOutcome,
    NotGranted,
    NotSent,
    TokenExchange,
    TokenResponse,
    TokenResponseLost,
    read_token_exchange,
    token_exchange_request,
)
from tokenferry.secret import Secret

NOW = 1_800_000_000
SUBJECT = Secret("gho_the-long-lived-token-of-alice")
NESTED = TokenExchange(
    url="https://api.example.com/v2/token",
    method="GET",
    headers=(("authorization", "token {token}"), ("x-version", "1")),
    token_field="token",
    expiry_field="expires_at",
    endpoint_field="endpoints.api",
    endpoint_hosts=("example.com",),
)
POSTED = TokenExchange(url="https://api.example.com/t", parameters=(("subject_token", "{token}"), ("kind", "api")))


def answered(status: int = 200, /, **fields: Any) -> TokenResponse:
    return TokenResponse(status, {}, json.dumps(fields).encode())


def read(outcome: HttpOutcome, exchange: TokenExchange = NESTED, old: ExchangedToken | None = None) -> Any:
    return read_token_exchange(outcome, exchange, SUBJECT, old, sent_at=NOW, now=NOW)


def granted(**fields: Any) -> ExchangedToken:
    outcome = read(answered(**{"token": "short-lived", "expires_at": NOW + 1500} | fields))
    assert isinstance(outcome, Granted)
    assert isinstance(outcome.token, ExchangedToken)
    return outcome.token


def test_a_get_has_the_token_in_the_declared_header_alone() -> None:
    request = token_exchange_request(NESTED, SUBJECT)
    assert (request.method, request.url, request.body) == ("GET", NESTED.url, b"")
    assert dict(request.headers) == {
        "accept": "application/json",
        "authorization": f"token {SUBJECT.reveal()}",
        "x-version": "1",
    }
    assert not list(shows(repr(request), SUBJECT.reveal()))


@pytest.mark.parametrize("encoding", ["json", "form"])
def test_a_post_has_it_in_its_body(encoding: Any) -> None:
    request = token_exchange_request(TokenExchange(POSTED.url, parameters=POSTED.parameters, body=encoding), SUBJECT)
    fields = (
        json.loads(request.body)
        if encoding == "json"
        else {k: v[0] for k, v in parse_qs(request.body.decode()).items()}
    )
    assert (request.method, fields) == ("POST", {"subject_token": SUBJECT.reveal(), "kind": "api"})


@pytest.mark.parametrize(
    ("expiry", "seconds"),
    [
        (1500, 1500),
        ("1500", 1500),
        (NOW + 1500, 1500),
        (str(NOW + 1500), 1500),
        ((NOW + 1500) * 1000, 1500),
        ("2027-01-15T08:25:00Z", 1500),
        ("2027-01-15T10:25:00+02:00", 1500),
        ("2027-01-15T08:25:00", 1500),
        (None, 3600),
        ("soon", 3600),
        (NOW - 5, 60),
        (0, 60),
        (True, 3600),
        (10**400, 60),
        (-(10**400), 60),
    ],
)
def test_an_expiry_may_be_a_span_or_an_instant(expiry: Any, seconds: int) -> None:
    token = granted(expires_at=expiry)
    assert (token.expires_at, token.lifetime, token.obtained_at) == (NOW + seconds, seconds, NOW)


@given(st.one_of(st.integers(), st.integers(10**300), st.floats(allow_nan=False), st.text(), st.booleans(), st.none()))
def test_no_expiry_costs_the_token(expiry: Any) -> None:
    assert 0 < granted(expires_at=expiry).lifetime <= 365 * 86_400  # type: ignore[operator]


def test_what_is_granted_keeps_what_it_was_got_for() -> None:
    first = granted(endpoints={"api": "https://eu.example.com/v1/"})
    assert (first.secret.reveal(), first.subject, first.endpoint) == (
        "short-lived",
        SUBJECT,
        "https://eu.example.com/v1",
    )
    assert (first.source, first.refresh, first.is_renewable) == ("login", None, True)
    assert first.headers() == (("authorization", "Bearer short-lived"),)
    second = read(answered(token="another", expires_at=1500), old=first)
    assert (second.token.secret.reveal(), second.token.source, second.token.endpoint) == ("another", "refresh", None)


@pytest.mark.parametrize(
    "endpoint",
    [
        "https://example.com.evil.test",
        "https://evil.test/example.com",
        "https://notexample.com",
        "example.com",
        "",
        "https://[",
        7,
    ],
)
def test_requests_go_to_no_host_that_the_declaration_does_not_name(endpoint: Any) -> None:
    outcome = read(answered(token="short-lived", expires_at=1500, endpoints={"api": endpoint}))
    assert isinstance(outcome, NotGranted)
    assert "endpoint_hosts" in outcome.reason


@pytest.mark.parametrize(
    "endpoint",
    [
        "http://example.com",
        "https://u:p@example.com",
        "https://example.com/?q=1",
        "https://example.com/v1?",
        "https://example.com:99999",
        "https://example.com:https",
        "https://example.com:0",
        "https://example.com:",
        "https://evil.test\\.example.com",
        "https://evil.test%2f.example.com",
        "https://..example.com",
        "https://example.com/v1/../admin",
    ],
)
def test_the_address_of_an_allowed_host_is_a_plain_one(endpoint: str) -> None:
    outcome = read(answered(token="short-lived", expires_at=1500, endpoints={"api": endpoint}))
    assert isinstance(outcome, NotGranted)
    assert "is not an https:// URL" in outcome.reason


@pytest.mark.parametrize(
    ("status", "fields", "sentence"),
    [
        (401, {"message": "Bad credentials"}, "HTTP 401 (Bad credentials)"),
        (403, {"message": "no", "error_details": {"message": "Ask for a seat."}}, "HTTP 403 (Ask for a seat.)"),
        (403, {"error": "access_denied", "error_description": "No seat."}, "HTTP 403 (access_denied: No seat.)"),
    ],
)
def test_401_and_403_refuse_the_long_lived_token_in_the_vendors_words(status: int, fields: Any, sentence: str) -> None:
    assert read(answered(status, **fields)) == Denied(f"its token was not exchanged: {sentence}")


@pytest.mark.parametrize(
    "outcome",
    [
        NotSent("no route"),
        TokenResponseLost("cut"),
        answered(500),
        answered(429),
        answered(404),
        answered(200),
        answered(200, token=""),
        answered(200, token="two words"),
        answered(200, token=7),
        answered(200, error="odd"),
        TokenResponse(200, {}, b"<html>"),
    ],
)
def test_whatever_else_gives_no_token_decides_nothing(outcome: HttpOutcome) -> None:
    assert isinstance(read(outcome), NotGranted)


def test_no_answer_puts_the_token_into_a_message() -> None:
    outcome = read(answered(401, message=f"token {SUBJECT.reveal()} is bad"))
    assert not list(shows(repr(outcome), SUBJECT.reveal()))
    assert "[redacted]" in outcome.reason
