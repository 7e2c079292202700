from http import HTTPStatus
from typing import Any
from urllib.parse import parse_qs, urlencode, urlsplit

import pytest
from hypothesis import given
from hypothesis import strategies as st

from leaks import shows
from tokenferry.login._callback import Callback
from tokenferry.login._http import CallbackReply, CallbackRequest
from tokenferry.oauth import Authorization, OAuthEndpoints

REDIRECT = "http://localhost:1234/callback"
ENDPOINTS = OAuthEndpoints(
    authorization_endpoint="https://idp.example/authorize",
    token_endpoint="https://idp.example/token",
    client_id="client",
)


@pytest.fixture
def authorization() -> Authorization:
    return Authorization.begin(ENDPOINTS)


@pytest.fixture
def callback(authorization: Authorization) -> Callback:
    return Callback(authorization, REDIRECT)


def ask(
    callback: Callback, query: str = "", method: str = "GET", path: str = "/callback", **headers: str
) -> CallbackReply:
    given = {"host": "localhost:1234"} | {name.replace("_", "-"): value for name, value in headers.items()}
    return callback.answer(CallbackRequest(method, path, query, given))


def begin(callback: Callback) -> str:
    """Open the address, and give the cookie."""
    reply = ask(callback)
    assert reply.status == HTTPStatus.SEE_OTHER
    return dict(reply.headers)["set-cookie"].partition(";")[0]


def answer(authorization: Authorization, **changes: str) -> str:
    return urlencode({"code": "the-code", "state": authorization.state.reveal()} | changes)


def test_it_leads_to_the_provider_once_and_takes_the_answer_once(
    callback: Callback, authorization: Authorization
) -> None:
    reply = ask(callback)
    headers = dict(reply.headers)
    there = urlsplit(headers["location"])
    assert there.netloc == "idp.example"
    assert parse_qs(there.query)["redirect_uri"] == [REDIRECT]
    assert "HttpOnly; SameSite=Lax" in headers["set-cookie"]
    cookie = headers["set-cookie"].partition(";")[0]
    assert ask(callback, answer(authorization), cookie=cookie).status == HTTPStatus.OK
    assert callback.code is not None
    assert callback.code.code.reveal() == "the-code"
    assert callback.code.redirect_uri == REDIRECT
    assert ask(callback, answer(authorization), cookie=cookie).status == HTTPStatus.GONE
    assert ask(callback).status == HTTPStatus.GONE


@given(
    path=st.sampled_from(
        ["/callback", "//evil.example/callback", "/callback/../x", "/", "/callback?x", "/\\evil.example"]
    ),
    query=st.dictionaries(
        st.sampled_from(["redirect_uri", "next", "url", "state", "code", "iss", "return_to"]),
        st.sampled_from(["https://evil.example", "//evil.example", "javascript:alert(1)", "x"]),
    ),
    host=st.sampled_from(["localhost:1234", "evil.example", "localhost:1234@evil.example"]),
)
def test_it_redirects_to_the_provider_alone(path: str, query: dict[str, str], host: str) -> None:
    """It is no open redirect: the only way it leads is the login that was begun."""
    callback = Callback(Authorization.begin(ENDPOINTS), REDIRECT)
    for _ in range(2):
        reply = ask(callback, urlencode(query), path=path, host=host)
        location = dict(reply.headers).get("location")
        assert location is None or location.startswith("https://idp.example/authorize?")
        assert b"evil" not in reply.to_bytes().partition(b"\r\n\r\n")[2]


def test_an_address_that_is_opened_twice_ends_the_login(callback: Callback, authorization: Authorization) -> None:
    """Somebody who reads command lines could have been the first."""
    begin(callback)
    assert ask(callback).status == HTTPStatus.GONE
    assert "opened twice" in str(callback.fault)


@pytest.mark.parametrize("cookie", ["", "tokenferry_login=", "tokenferry_login=wrong", "other=1", "a b;=;"])
def test_an_answer_counts_from_the_browser_alone_that_began(
    callback: Callback, authorization: Authorization, cookie: str
) -> None:
    begin(callback)
    assert ask(callback, answer(authorization), cookie=cookie).status == HTTPStatus.FORBIDDEN
    assert not callback.is_over


def test_an_answer_before_the_login_was_opened_counts_for_nothing(
    callback: Callback, authorization: Authorization
) -> None:
    assert ask(callback, answer(authorization)).status == HTTPStatus.FORBIDDEN
    assert not callback.is_over


@pytest.mark.parametrize(
    "query",
    [
        "state=wrong&code=c",
        "code=c",
        "state=&code=c",
        "nonsense",
        "=",
        "&" * 100,
        "code=c&state=S&state=S",
        "code=&state=S",
    ],
)
def test_a_forged_answer_ends_nothing(callback: Callback, authorization: Authorization, query: str) -> None:
    cookie = begin(callback)
    query = query.replace("S", authorization.state.reveal())
    assert ask(callback, query, cookie=cookie).status == HTTPStatus.BAD_REQUEST
    assert not callback.is_over
    assert ask(callback, answer(authorization), cookie=cookie).status == HTTPStatus.OK


def test_a_refusal_and_a_foreign_issuer_end_the_login(authorization: Authorization) -> None:
    for changes, word in (
        ({"error": "access_denied"}, "the login was refused (access_denied)"),
        ({"iss": "https://evil.example"}, "not from https://idp.example"),
    ):
        callback = Callback(authorization, REDIRECT)
        cookie = begin(callback)
        assert ask(callback, answer(authorization, **changes), cookie=cookie).status == HTTPStatus.BAD_REQUEST
        assert word in str(callback.fault)
        assert callback.code is None


@pytest.mark.parametrize(
    ("given", "status"),
    [
        ({"host": "evil.example:1234"}, 421),
        ({"host": "localhost"}, 421),
        ({"host": "localhost:9"}, 421),
        ({"path": "/"}, 404),
        ({"path": "/callback/"}, 404),
        ({"method": "POST"}, 405),
        ({"method": "HEAD"}, 405),
        ({"sec_fetch_mode": "no-cors"}, 403),
        ({"sec_fetch_mode": "navigate", "sec_fetch_dest": "iframe"}, 403),
        ({"sec_purpose": "prefetch"}, 403),
        ({"origin": "null"}, 403),
        ({"sec_fetch_site": "cross-site", "sec_fetch_mode": "navigate", "sec_fetch_dest": "document"}, 403),
    ],
)
def test_nothing_but_a_person_who_opens_it_begins_the_login(
    callback: Callback, given: dict[str, Any], status: int
) -> None:
    assert ask(callback, **given).status == status
    assert not callback.is_over
    begin(callback)


@pytest.mark.parametrize("host", ["LOCALHOST:1234", "127.0.0.1:1234", "[::1]:1234"])
def test_every_name_of_this_machine_will_do(callback: Callback, host: str) -> None:
    assert ask(callback, host=host).status == HTTPStatus.SEE_OTHER


def test_what_is_no_request_is_answered_as_such(callback: Callback) -> None:
    assert callback.answer(None).status == HTTPStatus.BAD_REQUEST
    assert not callback.is_over


def test_neither_request_nor_reply_shows_what_they_carry(callback: Callback, authorization: Authorization) -> None:
    state = authorization.state.reveal()
    assert not shows(repr(ask(callback)), state)
    assert not shows(repr(CallbackRequest("GET", "/callback", answer(authorization), {})), state, "the-code")
    assert not shows(repr(authorization), state, authorization.verifier.reveal())
