import json
from typing import Any
from urllib.parse import parse_qs

import pytest
from hypothesis import given
from hypothesis import strategies as st
from msgspec.structs import replace

from leaks import leaks
from tokenferry.errors import LoginFailed, TryLater
from tokenferry.oauth import (
    DeviceCode,
    DevicePoll,
    HttpOutcome,
    NotSent,
    OAuthEndpoints,
    TokenResponse,
    TokenResponseLost,
    device_request,
    read_device,
)
from tokenferry.providers import url_fault
from tokenferry.secret import Secret

ENDPOINTS = OAuthEndpoints(
    device_authorization_endpoint="https://idp.example/device",
    token_endpoint="https://idp.example/token",
    client_id="my client",
    scopes=("a", "b"),
    token_body="form",
)
GIVEN = {"device_code": "the-device-code-of-this-login", "user_code": "WDJB-MJHT"}
GIVEN |= {"verification_uri": "https://idp.example/go"}
DEVICE = DeviceCode(Secret(GIVEN["device_code"]), "WDJB-MJHT", "https://idp.example/go")
PENDING = {"error": "authorization_pending"}


def answered(status: int = 200, /, **fields: Any) -> TokenResponse:
    return TokenResponse(status, {}, json.dumps(fields).encode())


def read(transmission: HttpOutcome) -> DeviceCode:
    return read_device(transmission, ENDPOINTS, url_fault, 1_700_000_000)


def poll(**given: Any) -> DevicePoll:
    return DevicePoll(ENDPOINTS, replace(DEVICE, **given), None)


def form(body: bytes) -> dict[str, str]:
    return {name: values[0] for name, values in parse_qs(body.decode()).items()}


def test_both_requests_say_what_the_standard_wants() -> None:
    request = device_request(ENDPOINTS, Secret("s3cret"))
    assert request.url == "https://idp.example/device"
    assert form(request.body) == {"scope": "a b", "client_id": "my client", "client_secret": "s3cret"}
    asked = poll().request()
    assert asked.url == "https://idp.example/token"
    grant = "urn:ietf:params:oauth:grant-type:device_code"
    assert form(asked.body) == {"grant_type": grant, "device_code": GIVEN["device_code"], "client_id": "my client"}
    assert GIVEN["device_code"] not in repr((asked, DEVICE))


def test_a_code_is_read_with_its_times_or_those_of_the_standard() -> None:
    code = read(
        answered(**GIVEN, verification_uri_complete="https://idp.example/go?c=WDJB-MJHT", expires_in=60, interval=1)
    )
    assert (code.user_code, code.url, code.expires_in, code.interval) == ("WDJB-MJHT", "https://idp.example/go", 60, 1)
    assert code.direct_url == "https://idp.example/go?c=WDJB-MJHT"
    code = read(answered(**GIVEN))
    assert (code.interval, code.expires_in, code.direct_url) == (5, 1800, None)
    code = read(answered(**GIVEN, interval=0, expires_in=10**9))
    assert (code.interval, code.expires_in) == (1, 1800)


@pytest.mark.parametrize(
    "changes",
    [
        {"user_code": "\x1b[31mAB"},
        {"user_code": ""},
        {"user_code": 7},
        {"verification_uri": "javascript:alert(1)"},
        {"verification_uri": "http://idp.example/go"},
        {"verification_uri": "https://idp.example/\u202ego"},
        {"verification_uri": "https://user@idp.example/go"},
        {"device_code": None},
        {"device_code": "with blank"},
    ],
)
def test_a_code_that_can_not_be_shown_or_used_is_refused(changes: dict[str, Any]) -> None:
    with pytest.raises(LoginFailed, match="no code that can be shown"):
        read(answered(**(GIVEN | changes)))


def test_an_address_with_the_code_that_can_not_be_shown_is_left_out() -> None:
    assert read(answered(**GIVEN, verification_uri_complete="javascript:x")).direct_url is None


@pytest.mark.parametrize(
    ("transmission", "kind", "words"),
    [
        (NotSent("no route"), TryLater, "no route"),
        (TokenResponseLost("cut"), TryLater, "cut"),
        (answered(503, error="server_error"), TryLater, "HTTP 503"),
        (
            answered(400, error="unauthorized_client", error_description="no device for you"),
            LoginFailed,
            "no device for",
        ),
        (TokenResponse(404, {}, b"<html>"), LoginFailed, "HTTP 404"),
        (TokenResponse(200, {}, b"[]"), LoginFailed, "no code that can be shown"),
    ],
)
def test_no_code_is_a_sentence(transmission: HttpOutcome, kind: type[Exception], words: str) -> None:
    with pytest.raises(kind, match=words):
        read(transmission)


def test_it_asks_in_the_interval_and_slower_for_good_when_asked_to() -> None:
    asking = poll(interval=2.0)
    assert asking.wait == 2
    waits = []
    for fields in (PENDING, {"error": "slow_down"}, PENDING, {"error": "slow_down"}, PENDING):
        assert asking.read(answered(400, **fields), 0, 0) is None
        waits.append(asking.wait)
    assert waits == [2, 7, 7, 12, 12]


def test_trouble_on_the_way_makes_it_ask_half_as_often_up_to_a_minute() -> None:
    asking, waits = poll(), []
    for transmission in (
        TokenResponseLost("cut"),
        NotSent("no route"),
        answered(503),
        answered(429),
        TokenResponseLost("cut"),
        TokenResponseLost("cut"),
    ):
        assert asking.read(transmission, 0, 0) is None
        waits.append(asking.wait)
    assert waits == [10, 20, 40, 60, 60, 60]
    assert asking.read(TokenResponse(503, {"retry-after": "90"}, b""), 0, 0) is None
    assert asking.wait == 90
    assert asking.read(answered(400, **PENDING), 0, 0) is None
    assert asking.wait == 60
    patient = poll(interval=100.0)
    assert patient.read(TokenResponseLost("cut"), 0, 0) is None
    assert patient.wait == 100


@pytest.mark.parametrize(
    ("fields", "words"),
    [
        ({"error": "expired_token"}, "was not confirmed in time"),
        ({"error": "access_denied", "error_description": "No."}, r"was refused \(access_denied: No\.\)"),
        ({"error": "invalid_grant"}, "idp.example refused to complete the login: HTTP 400"),
        ({"error": "invalid_client"}, "invalid_client"),
    ],
)
def test_an_end_is_a_sentence_without_the_code(fields: dict[str, str], words: str) -> None:
    fields = {"error_description": f"about {GIVEN['device_code']}"} | fields
    with pytest.raises(LoginFailed, match=words) as caught:
        poll().read(answered(400, **fields), 0, 0)
    assert not leaks(caught.value, GIVEN["device_code"])


def test_an_error_with_a_status_of_success_is_judged_like_a_4xx() -> None:
    asked = poll()
    assert asked.read(TokenResponse(200, {}, b'{"error": "authorization_pending"}'), 0, 0) is None
    with pytest.raises(LoginFailed, match="was refused"):
        asked.read(TokenResponse(200, {}, b'{"error": "access_denied"}'), 0, 0)


def test_tokens_are_read_with_who_they_are_for() -> None:
    token = poll().read(
        answered(access_token="acc", refresh_token="ref", expires_in=60, account={"email_address": "a@b.example"}),
        1_700_000_000.9,
        1_700_000_001,
    )
    assert token is not None
    assert (token.email, token.scopes, token.source) == ("a@b.example", ("a", "b"), "login")
    assert token.expires_at == 1_700_000_060
    with pytest.raises(LoginFailed, match="no token that can be read"):
        poll().read(TokenResponse(200, {}, b"{}"), 0, 0)
    with pytest.raises(LoginFailed, match="a token of type 'mac'; only Bearer ones"):
        poll().read(answered(access_token="acc", token_type="mac"), 0, 0)


@given(
    answers=st.lists(
        st.sampled_from(
            [
                TokenResponseLost("x"),
                NotSent("x"),
                answered(400, **PENDING),
                answered(400, error="slow_down"),
                answered(500),
            ]
        ),
        max_size=30,
    ),
    interval=st.floats(1, 300),
)
def test_it_never_asks_sooner_than_the_server_began_with(answers: list[HttpOutcome], interval: float) -> None:
    asking = poll(interval=interval)
    last = interval
    for one in answers:
        asking.read(one, 0, 0)
        assert asking.wait >= last
        last = asking.wait


@pytest.mark.parametrize("status", [200, 202, 400])
@pytest.mark.parametrize("field", ["error", "status"])
@pytest.mark.parametrize("word", ["pending", "authorization_pending"])
def test_pending_is_waited_for_whatever_the_status(status: int, field: str, word: str) -> None:
    assert poll().read(answered(status, **{field: word}), 0, 0) is None
