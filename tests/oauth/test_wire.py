import json
from urllib.parse import parse_qsl

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from leaks import shows
from tokenferry.oauth import OAuthEndpoints, TokenResponse, encode_request, refresh_request, retry_after
from tokenferry.secret import Secret

URL = "https://llm.example/token"
REFRESH = "sk-ant-ort01-" + "Rr1+/=&%" * 9
CLIENT_SECRET = "client-secret-Fohpheighee5ieg1Uo"

# -- requests


@settings(deadline=None)
@given(st.dictionaries(st.text(min_size=1), st.text(min_size=1)))
def test_both_encodings_say_the_same(fields: dict[str, str]) -> None:
    as_json = encode_request(URL, fields, "json")
    as_form = encode_request(URL, fields, "form")
    assert json.loads(as_json.body) == fields
    assert dict(parse_qsl(as_form.body.decode("ascii"), strict_parsing=bool(fields))) == fields
    assert dict(as_json.headers) == {"content-type": "application/json", "accept": "application/json"}
    assert dict(as_form.headers)["content-type"] == "application/x-www-form-urlencoded"


@pytest.mark.parametrize("encoding", ["json", "form"])
@pytest.mark.parametrize("client_secret", [None, CLIENT_SECRET])
@pytest.mark.parametrize("client_id", [None, "client"])
def test_a_refresh_asks_for_what_rfc_6749_says(encoding: str, client_id: str | None, client_secret: str | None) -> None:
    endpoints = OAuthEndpoints(token_endpoint=URL, client_id=client_id, token_body=encoding)  # type: ignore[arg-type]  # both
    request = refresh_request(endpoints, Secret(REFRESH), Secret(client_secret) if client_secret else None)
    text = request.body.decode("ascii")
    sent = json.loads(text) if encoding == "json" else dict(parse_qsl(text, strict_parsing=True))
    wanted = {"grant_type": "refresh_token", "refresh_token": REFRESH}
    wanted |= {"client_id": client_id} if client_id else {}
    wanted |= {"client_secret": client_secret} if client_secret else {}
    assert sent == wanted
    assert request.url == URL
    assert not shows(repr(request), REFRESH, CLIENT_SECRET)


def test_an_answer_shows_its_status_alone() -> None:
    answer = TokenResponse(200, {"set-cookie": REFRESH}, f'{{"access_token": "{REFRESH}"}}'.encode())
    assert not shows(f"{answer} {answer!r}", REFRESH)
    assert "200" in repr(answer)


# -- endpoints


def test_base_url_is_filled_in_everywhere() -> None:
    endpoints = OAuthEndpoints(
        authorization_endpoint="{base_url}/authorize",
        token_endpoint="https://other.example/token",
        redirect_uri="{base_url}/{base_url}",
        loopback_redirect="http://localhost:{port}/callback",
    )
    filled = endpoints.at(URL)
    assert filled.authorization_endpoint == f"{URL}/authorize"
    assert filled.token_endpoint == "https://other.example/token"
    assert filled.revocation_endpoint is None
    assert filled.redirect_uri == f"{URL}/{URL}"
    assert filled.loopback_redirect == "http://localhost:{port}/callback"


# -- Retry-After

NOW = 1_700_000_000.0  # Tue, 14 Nov 2023 22:13:20 GMT


@pytest.mark.parametrize(
    ("value", "seconds"),
    [
        ("0", 0.0),
        ("120", 120.0),
        (" 7 ", 7.0),
        ("999999999", 999_999_999.0),
        ("Tue, 14 Nov 2023 22:13:50 GMT", 30.0),
        ("Tue, 14 Nov 2023 22:13:00 GMT", 0.0),
        ("Tuesday, 14-Nov-23 22:13:50 GMT", 30.0),
        ("Tue, 14 Nov 2023 23:13:50 +0100", 30.0),
        ("", None),
        ("soon", None),
        ("-5", None),
        ("1.5", None),
        ("1e3", None),
        ("inf", None),
        ("nan", None),
        ("9999999999", None),
        ("9" * 5000, None),
        ("٣", None),
        ("²", None),
        ("Tue, 14 Nov 99999999999999999999 22:13:20 GMT", None),
        ("Tue, 99 Nov 2023 22:13:20 GMT", None),
        ("Tue, 14 Nov 2023 22:13:20 +99999999999999", None),
    ],
)
def test_retry_after_is_seconds_or_a_date(value: str, seconds: float | None) -> None:
    assert retry_after({"retry-after": value}, NOW) == seconds


def test_no_retry_after_is_none() -> None:
    assert retry_after({}, NOW) is None


@settings(deadline=None)
@given(
    st.text()
    | st.from_regex(r"[A-Z][a-z]{2}, \d{1,5} (Jan|Nov|xxx) \d{0,12} \d{0,3}:\d{0,3}:\d{0,3} ?(GMT|[+-]\d{0,20})?"),
    st.floats(0, 4e9),
)
def test_no_retry_after_raises_or_is_no_wait(value: str, now: float) -> None:
    seconds = retry_after({"retry-after": value}, now)
    assert seconds is None or 0 <= seconds < float("inf")
