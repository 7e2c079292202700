import json
import logging
from typing import Any

import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st
from msgspec.structs import replace

from leaks import shows
from tokenferry.credentials import OAuthToken, credential_from_json
from tokenferry.oauth import (
    Denied,
    Granted,
    NotGranted,
    NotSent,
    Outcome,
    TokenResponse,
    TokenResponseLost,
    Uncertain,
    read_refresh,
)
from tokenferry.secret import Fields, Secret

ACCESS = "sk-ant-oat01-" + "Aa0" * 30
REFRESH = "sk-ant-ort01-" + "Rr1" * 30
NEW_ACCESS = "sk-ant-oat01-" + "Bb2" * 30
NEW_REFRESH = "sk-ant-ort01-" + "Ss3" * 30
SENT = 1_700_000_000
OLD = OAuthToken(
    Secret(ACCESS),
    Secret(REFRESH),
    expires_at=SENT - 10,
    scopes=("user:profile", "user:inference"),
    subscription_type="max",
    rate_limit_tier="tier",
    email="me@mail.example",
    account_id="account",
    organization_id="organization",
    obtained_at=SENT - 28_810,
    lifetime=28_800,
    refresh_expires_at=SENT + 1_000_000,
    source="login",
    unknown=Fields(later=[1]),
)


def answered(status: int, body: bytes | dict[str, Any], old: OAuthToken = OLD, **headers: str) -> Outcome:
    raw = body if isinstance(body, bytes) else json.dumps(body).encode()
    names = {name.replace("_", "-"): value for name, value in headers.items()}
    return read_refresh(TokenResponse(status, names, raw), old, SENT + 0.9, SENT + 2.0)


def granted(old: OAuthToken = OLD, **fields: Any) -> OAuthToken:
    body = {"access_token": NEW_ACCESS, "refresh_token": NEW_REFRESH, "expires_in": 3000, **fields}
    outcome = answered(200, {key: value for key, value in body.items() if value is not ...}, old)
    assert isinstance(outcome, Granted), outcome
    return outcome.token


# -- granted


def test_a_grant_replaces_what_it_gives_and_keeps_the_rest() -> None:
    assert granted() == replace(
        OLD,
        secret=Secret(NEW_ACCESS),
        refresh=Secret(NEW_REFRESH),
        expires_at=SENT + 3000,
        obtained_at=SENT,
        lifetime=3000,
        refresh_expires_at=None,
        source="refresh",
    )
    assert granted().unknown == OLD.unknown


def test_a_grant_may_give_everything_again() -> None:
    token = granted(
        scope="a b",
        account={"uuid": "A", "email_address": "you@mail.example"},
        organization={"uuid": "O", "name": "x"},
        refresh_token_expires_in=2_592_000,
    )
    assert token.scopes == ("a", "b")
    assert (token.account_id, token.email, token.organization_id) == ("A", "you@mail.example", "O")
    assert token.refresh_expires_at == SENT + 2_592_000


@pytest.mark.parametrize("status", [200, 201, 204, 299])
def test_every_2xx_with_a_token_is_a_grant(status: int) -> None:
    assert isinstance(answered(status, {"access_token": NEW_ACCESS}), Granted)


@pytest.mark.parametrize("absent", [..., None, ""])
def test_no_refresh_token_means_keep_the_old_one_and_its_end(absent: object) -> None:
    token = granted(refresh_token=absent)
    assert token.refresh == OLD.refresh
    assert token.refresh_expires_at == OLD.refresh_expires_at


def test_the_same_refresh_token_again_keeps_its_end() -> None:
    assert granted(refresh_token=REFRESH).refresh_expires_at == OLD.refresh_expires_at


@pytest.mark.parametrize("odd", [..., None, "", "  ", [], 5, {}, [5], True])
def test_no_scope_means_keep_the_old_ones(odd: object) -> None:
    assert granted(scope=odd).scopes == OLD.scopes


@pytest.mark.parametrize(
    ("expires_in", "lifetime"),
    [
        (28_800, 28_800),
        (28_800.9, 28_800),
        ("28800", 28_800),
        (1, 1),
        (0.5, 1),
        (31_536_000, 31_536_000),
        (..., 3600),
        (None, 3600),
        ("", 3600),
        ("soon", 3600),
        ("٣٦", 3600),
        ([], 3600),
        ({}, 3600),
        (True, 3600),
        (float("nan"), 3600),
        (float("inf"), 3600),
        (float("-inf"), 3600),
        (0, 60),
        (-1, 60),
        ("0", 60),
        ("0" * 5000, 60),
        ("9" * 5000, 60),
        (31_536_001, 60),
        (1e300, 60),
        (10**300, 60),
    ],
)
def test_an_odd_expires_in_never_costs_the_tokens(
    expires_in: object, lifetime: int, caplog: pytest.LogCaptureFixture
) -> None:
    with caplog.at_level(logging.DEBUG):
        token = granted(expires_in=expires_in)
    assert (token.lifetime, token.expires_at) == (lifetime, SENT + lifetime)
    assert (token.secret, token.refresh) == (Secret(NEW_ACCESS), Secret(NEW_REFRESH))
    assert ("taken as 60 seconds" in caplog.text) is (lifetime == 60)
    assert not shows(caplog.text, NEW_ACCESS, NEW_REFRESH)


def test_a_number_too_large_for_a_float_does_not_cost_them_either() -> None:
    body = f'{{"access_token": "{NEW_ACCESS}", "expires_in": 1e999}}'.encode()
    assert isinstance(answered(200, body), Granted)


@pytest.mark.parametrize(
    ("value", "end"),
    [(60, SENT + 60), (60.5, SENT + 60), (0, None), (-1, None), ("60", None), (True, None), (1e300, None), ([], None)],
)
def test_an_odd_end_of_the_refresh_token_is_none(value: object, end: int | None) -> None:
    assert granted(refresh_token_expires_in=value).refresh_expires_at == end


@pytest.mark.parametrize("odd", [None, [], "x", {"uuid": 5, "email_address": []}, {"uuid": "", "email_address": None}])
def test_odd_accounts_and_organizations_change_nothing(odd: object) -> None:
    token = granted(account=odd, organization=odd)
    assert (token.account_id, token.email, token.organization_id) == ("account", "me@mail.example", "organization")


def test_a_login_without_a_refresh_token_may_get_one() -> None:
    assert granted(replace(OLD, refresh=None)).refresh == Secret(NEW_REFRESH)


# -- uncertain


@pytest.mark.parametrize(
    "body",
    [
        b"",
        b"ok",
        b"<html>",
        b"[]",
        b"{}",
        b'{"access_token": ',
        b"\xff",
        {"access_token": None},
        {"access_token": ""},
        {"access_token": 5},
        {"access_token": True},
        {"access_token": [NEW_ACCESS]},
        {"access_token": {NEW_ACCESS: 1}},
        {"access_token": NEW_ACCESS + "\r\nx-injected: yes"},
        {"access_token": NEW_ACCESS + "\x00"},
        {"access_token": NEW_ACCESS + " "},
        {"access_token": "é"},
        {"refresh_token": NEW_REFRESH},
        {"error": ""},
        {"error": ["invalid_grant"]},
        {"error": {}},
        {"error": {"type": "", "message": "invalid_grant"}},
        {"error_description": "invalid_grant"},
    ],
)
def test_a_2xx_that_can_not_be_read_is_uncertain(body: bytes | dict[str, Any]) -> None:
    outcome = answered(200, body)
    assert isinstance(outcome, Uncertain)
    assert not shows(repr(outcome), NEW_ACCESS, NEW_REFRESH)


@pytest.mark.parametrize(
    "odd", [5, 0, False, True, [NEW_REFRESH], {NEW_REFRESH: 1}, [], {}, NEW_REFRESH + "\n", " ", "é"]
)
def test_a_refresh_token_that_can_not_be_read_keeps_the_access_token_and_the_old_one(odd: object) -> None:
    outcome = answered(200, {"access_token": NEW_ACCESS, "refresh_token": odd, "error": "invalid_grant"})
    assert isinstance(outcome, Granted)
    assert outcome.token.secret == Secret(NEW_ACCESS)
    assert outcome.token.refresh == OLD.refresh
    assert not outcome.knows_successor


@pytest.mark.parametrize("status", [200, 201, 299])
@pytest.mark.parametrize("token", [{}, {"access_token": None}, {"access_token": ""}, {"access_token": 5}])
def test_an_error_with_a_status_of_success_is_judged_like_a_4xx(status: int, token: dict[str, Any]) -> None:
    for code in ("invalid_grant", "refresh_token_reused", "bad_refresh_token"):
        for error in (code, {"type": code}, {"code": code}, {"type": "invalid_request_error", "code": code}):
            assert isinstance(answered(status, {"error": error, **token}), Denied)
    others: list[Any] = ["server_error", "temporarily_unavailable", {"type": "api_error"}, {"code": 500}, {"code": "x"}]
    for other in others:
        outcome = answered(status, {"error": other, **token}, retry_after="17")
        assert isinstance(outcome, NotGranted)
        assert outcome.retry_after == 17.0


@pytest.mark.parametrize("error", ["invalid_grant", {"type": "invalid_grant"}, "server_error"])
def test_a_usable_access_token_makes_a_grant_whatever_else_the_answer_holds(error: object) -> None:
    fields = {"access_token": NEW_ACCESS, "refresh_token": NEW_REFRESH, "error": error}
    outcome = answered(200, fields)
    assert isinstance(outcome, Granted)
    assert outcome.knows_successor


def test_what_was_cut_is_uncertain_and_what_was_not_sent_is_closed() -> None:
    assert read_refresh(TokenResponseLost("cut"), OLD, SENT, SENT) == Uncertain("cut")
    assert read_refresh(NotSent("no route"), OLD, SENT, SENT) == NotGranted("no route")


# -- denied and closed


@pytest.mark.parametrize("status", [400, 401, 403, 499])
@pytest.mark.parametrize("code", ["invalid_grant", "refresh_token_reused", "bad_refresh_token"])
def test_only_the_error_field_of_a_4xx_kills_a_login(status: int, code: str) -> None:
    for body in ({"error": code}, {"error": {"type": code, "message": "It is used up"}, "type": "error"}):
        outcome = answered(status, body)
        assert isinstance(outcome, Denied)
        assert outcome.reason.startswith(code)
    reported = answered(status, {"error": code, "error_description": "It is used up"})
    assert reported == Denied(f"{code}: It is used up")


@pytest.mark.parametrize(
    ("status", "body"),
    [
        (400, {"error": "invalid_request", "error_description": "not invalid_grant"}),
        (400, {"error": "invalid_client", "error_description": "invalid_grant"}),
        (400, {"error": {"type": "invalid_request_error", "message": "invalid_grant"}}),
        (400, {"error": {"message": "invalid_grant"}}),
        (400, {"error": "INVALID_GRANT"}),
        (400, {"error": "invalid_grant_type"}),
        (400, {"error": " invalid_grant"}),
        (400, {"error": ["invalid_grant"]}),
        (400, {"error_description": "invalid_grant"}),
        (400, {"message": "invalid_grant"}),
        (400, b"invalid_grant"),
        (400, b'"invalid_grant"'),
        (400, b'{"error": "invalid_grant"'),
        (400, b""),
        (400, {}),
        (401, {"error": "invalid_client"}),
        (404, b"<html>invalid_grant</html>"),
        (408, {}),
        (429, {"error": {"type": "rate_limit_error", "message": "slow down"}}),
        (429, {"error": "invalid_grant"}),
        (429, {"error": {"code": "refresh_token_reused"}}),
        (500, {"error": "invalid_grant"}),
        (502, b"<html>"),
        (503, {"error": "invalid_grant"}),
        (529, {}),
        (301, {"error": "invalid_grant"}),
        (307, {"access_token": NEW_ACCESS}),
        (304, b""),
        (100, {"access_token": NEW_ACCESS}),
        (600, {"error": "invalid_grant"}),
    ],
)
def test_every_other_answer_decides_nothing(status: int, body: bytes | dict[str, Any]) -> None:
    outcome = answered(status, body)
    assert isinstance(outcome, NotGranted)
    assert outcome.reason.startswith(f"HTTP {status}")
    assert outcome.retry_after is None


def test_a_closed_answer_says_when_to_try_again() -> None:
    assert answered(429, {"error": "slow_down"}, retry_after="17") == NotGranted("HTTP 429 (slow_down)", 17.0)
    assert answered(503, b"", retry_after="Tue, 14 Nov 2023 22:13:32 GMT") == NotGranted("HTTP 503", 10.0)
    assert answered(429, b"", retry_after="soon") == NotGranted("HTTP 429")


# -- what the server says is shown with care


@pytest.mark.parametrize("status", [400, 500])
@pytest.mark.parametrize(
    "words",
    [
        f"token {REFRESH} is unknown",
        f"{ACCESS}{REFRESH}",
        f"token {REFRESH[:30]}... is unknown",
        f"Bearer {ACCESS[:20]}",
        "x" * 190 + REFRESH,
        "x" * 1000 + REFRESH,
    ],
)
def test_no_token_is_in_a_reason(status: int, words: str) -> None:
    for error in ("invalid_grant", words):
        outcome = answered(status, {"error": error, "error_description": words})
        assert isinstance(outcome, Denied | NotGranted)
        assert not shows(outcome.reason, ACCESS, REFRESH)
        assert len(outcome.reason) <= 200 + len("HTTP 500 ()")


def test_of_tokens_that_begin_alike_nothing_is_left() -> None:
    old = OAuthToken(Secret("tok"), Secret("tok-and-more"))
    outcome = answered(500, {"error_description": "tok-and-more, tok, tok-and-more"}, old)
    assert outcome == NotGranted("HTTP 500 ([redacted] [redacted] [redacted])")


def test_a_reason_is_one_printable_line() -> None:
    words = "a\r\nb\x1b[2Jc\x00d\u2028e\u202ef\ud800g"
    outcome = answered(400, {"error": "invalid_grant", "error_description": words})
    assert outcome == Denied("invalid_grant: a  b [2Jc d e f g")


# -- whatever comes

values = st.recursive(
    st.none()
    | st.booleans()
    | st.integers()
    | st.floats()
    | st.text()
    | st.sampled_from([NEW_ACCESS, NEW_REFRESH, "invalid_grant", "28800", "9" * 400]),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(), inner, max_size=3),
    max_leaves=4,
)
KEYS = ["access_token", "refresh_token", "expires_in", "scope", "refresh_token_expires_in", "account", "organization"]
KEYS += ["error", "error_description", "token_type"]
bodies = st.binary() | st.dictionaries(st.sampled_from(KEYS), values).map(lambda fields: json.dumps(fields).encode())
olds = st.builds(
    replace,
    st.just(OLD),
    refresh=st.none() | st.just(Secret(REFRESH)),
    refresh_expires_at=st.none() | st.just(SENT + 5),
)


@settings(deadline=None)
@given(st.integers(100, 599) | st.sampled_from([200, 400]), bodies, olds)
@example(200, b'{"access_token": ["a"]}', OLD)
@example(200, b'{"access_token": "a", "refresh_token": {"a": 1}}', OLD)
def test_nothing_raises_and_no_token_is_lost(status: int, body: bytes, old: OAuthToken) -> None:
    outcome = answered(status, body, old)
    assert not shows(repr(outcome), ACCESS, REFRESH)
    if status // 100 != 2:
        assert isinstance(outcome, Denied | NotGranted)
    elif isinstance(outcome, Granted):
        token = outcome.token
        assert token.refresh is not None or old.refresh is None
        assert token.scopes
        assert token.unknown == old.unknown
        assert token.expires_at is not None
        assert SENT < token.expires_at <= SENT + 31_536_000
        assert credential_from_json("oauth", token.to_json()) == token
    else:
        assert isinstance(outcome, Uncertain | Denied | NotGranted)


def test_an_odd_token_type_never_discards_the_tokens_of_a_refresh(caplog: pytest.LogCaptureFixture) -> None:
    with caplog.at_level(logging.WARNING):
        assert granted(token_type="bearer") == granted(token_type=...) == granted()
        assert not caplog.messages
        token = granted(token_type="mac")
    assert (token.secret, token.refresh) == (Secret(NEW_ACCESS), Secret(NEW_REFRESH))
    assert caplog.messages == ["a refresh was answered with a token of type 'mac'; it is taken as Bearer"]
