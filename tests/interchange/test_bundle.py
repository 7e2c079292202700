import json
from typing import Any

import pytest
from hypothesis import given
from msgspec.structs import replace

from interchange.strategies import TIMES, json_values, tokens
from leaks import leaks
from tokenferry.accounts import read_credential
from tokenferry.credentials import OAuthToken
from tokenferry.errors import UsageError
from tokenferry.interchange import (
    EXPIRIES,
    parse_bundle,
    render_bundle,
    render_claude_code,
    render_profile,
    unread_expiry,
    without_refresh,
)
from tokenferry.secret import Secret
from tokenferry.stores import HiddenBytes

ACCESS = "sk-ant-oat01-" + "Aa1" * 30
REFRESH = "sk-ant-ort01-" + "Rr1" * 30
BUNDLE = {
    "access_token": ACCESS,
    "refresh_token": REFRESH,
    "expires_at": 1_800_000_000,
    "account_email": "me@mail.example",
    "obtained_at": 1_799_971_200,
    "source": "a browser",
}


def dump(value: Any) -> bytes:
    return HiddenBytes(json.dumps(value).encode())


def read(value: Any) -> OAuthToken:
    (entry,) = parse_bundle(dump(value))
    assert isinstance(entry.credential, OAuthToken), entry.fault
    return entry.credential


def test_a_bundle_is_read_whole() -> None:
    (entry,) = parse_bundle(dump(BUNDLE))
    assert (entry.key, entry.provider) == ("me@mail.example", "claude-max")
    assert entry.credential == OAuthToken(
        Secret(ACCESS),
        Secret(REFRESH),
        expires_at=1_800_000_000,
        email="me@mail.example",
        obtained_at=1_799_971_200,
        source="a browser",
    )


def test_a_bundle_is_written_as_it_is_read() -> None:
    assert json.loads(render_bundle(read(BUNDLE))) == {**BUNDLE, "obtained_at": "2027-01-15T00:00:00Z"}


def test_a_bundle_without_the_refresh_token_has_an_empty_one_and_is_read_again() -> None:
    """Its readers want a string in the one, and RFC 3339 in the other."""
    token = read(BUNDLE)
    raw = render_bundle(without_refresh(token))
    assert json.loads(raw)["refresh_token"] == ""
    assert read_credential(raw, "oauth", "oauth") == without_refresh(token)


def test_a_claude_code_file_without_the_refresh_token_has_an_empty_one() -> None:
    section = json.loads(render_claude_code(without_refresh(read(BUNDLE))))["claudeAiOauth"]
    assert (section["accessToken"], section["refreshToken"]) == (ACCESS, "")
    assert REFRESH not in str(section)


def test_a_token_endpoint_s_answer_is_a_bundle_too() -> None:
    answer = {
        "token_type": "Bearer",
        "access_token": ACCESS,
        "refresh_token": REFRESH,
        "expires_in": 28_800,
        "obtained_at": 1_799_971_200,
        "scope": "user:inference user:profile",
        "account": {"uuid": "a-1", "emailAddress": "me@mail.example"},
        "organization": {"uuid": "o-1"},
    }
    token = read(answer)
    assert (token.email, token.account_id, token.organization_id) == ("me@mail.example", "a-1", "o-1")
    assert (token.expires_at, token.lifetime) == (1_800_000_000, 28_800)
    assert token.scopes == ("user:inference", "user:profile")
    assert not token.unknown
    other = answer | {"account": {"uuid": "a-1", "email_address": "you@mail.example"}}
    assert read(other).email == "you@mail.example"


def test_milliseconds_are_distinguished_from_seconds() -> None:
    assert read(BUNDLE | {"expires_at": 1_800_000_000_000}).expires_at == 1_800_000_000
    assert read(BUNDLE | {"expires_at": 10_000_000_001}).expires_at == 10_000_000


@pytest.mark.parametrize("life", [0, -1, 10**9, "28800", None, True])
def test_an_odd_lifetime_costs_no_token(life: object) -> None:
    assert read({"access_token": ACCESS, "expires_in": life, "obtained_at": 1}).expires_at is None


@pytest.mark.parametrize(
    ("change", "fault"),
    [
        ({"access_token": "", "refresh_token": ""}, "logged out"),
        ({"access_token": " "}, '"access_token" is blank'),
        ({"expires_at": 4_102_444_801}, '"expires_at": a time must lie'),
        ({"expires_at": [ACCESS]}, '"expires_at": a time must be a number'),
        ({"refresh_token": f"{REFRESH} {ACCESS}"}, '"refresh_token": a secret must be'),
    ],
)
def test_what_can_t_be_a_login_is_reported_without_its_values(change: dict[str, Any], fault: str) -> None:
    (entry,) = parse_bundle(dump(BUNDLE | change))
    assert fault in entry.fault
    assert ACCESS not in entry.fault
    assert entry.credential is None


def test_what_is_no_json_object_is_refused_without_a_word_of_it() -> None:
    with pytest.raises(UsageError) as caught:
        parse_bundle(HiddenBytes(f'"{ACCESS}"'.encode()))
    assert not leaks(caught.value, ACCESS)


@given(tokens(), json_values)
def test_nothing_is_lost_and_nothing_invented(token: OAuthToken, more: Any) -> None:
    (entry,) = parse_bundle(render_bundle(token))
    assert entry.credential == token
    document = json.loads(render_bundle(token)) | {"unknown to us": more}
    assert json.loads(render_bundle(read(document))) == document


@given(tokens(expires_at=TIMES))
def test_a_profile_s_credentials_hold_the_tokens_and_the_expiry_in_seconds(token: OAuthToken) -> None:
    raw = render_profile(token)
    assert read(json.loads(raw)) == OAuthToken(token.secret, token.refresh, expires_at=token.expires_at)
    fields = json.loads(raw)
    assert fields.pop("version") == "1.0"
    assert fields.pop("type") == "oauth_token"
    assert set(fields) <= {"access_token", "refresh_token", "expires_at"}


def test_a_profile_s_credentials_are_never_without_an_expiry() -> None:
    with pytest.raises(UsageError, match="want an expiry"):
        render_profile(replace(read(BUNDLE), expires_at=None))


END = 1_800_000_000
TEXT = "2027-01-15T08:00:00Z"


@pytest.mark.parametrize(
    "fields",
    [
        {"expires_at": END},
        {"expires_at": str(END)},
        {"expiresAt": END * 1000},
        {"expired": TEXT},
        {"expired": "2027-01-15T16:00:00+08:00"},
        {"expiry_date": END * 1000},
        {"expiry": "2027-01-15T08:00:00.123456789Z"},
        {"expires": END * 1000},
        {"expires": END},
        {"expires_at": None, "expired": TEXT},
        {"expires_at": "", "expiry": TEXT},
        {"expires_in": 3600, "obtained_at": END - 3600},
        {"expires_in": 3600, "created_at": END - 3600},
        {"expires_in": 3600, "last_refresh": "2027-01-15T07:00:00Z"},
    ],
)
def test_the_expiry_is_read_whatever_it_is_called(fields: dict[str, Any]) -> None:
    token = OAuthToken(Secret(ACCESS), Secret("refresh"))
    raw = json.dumps({"access_token": ACCESS, "refresh_token": "refresh", **fields}).encode()
    (entry,) = parse_bundle(HiddenBytes(raw))
    assert isinstance(entry.credential, OAuthToken)
    assert (entry.credential.secret, entry.credential.expires_at) == (token.secret, END)
    added = read_credential(raw, "oauth", "oauth") if fields.get("expires_at", 0) in (0, END, None) else None
    assert added is None or added.expires_at == END


@pytest.mark.parametrize(
    "fields",
    [
        {},
        {"expires_in": 28_800},
        {"expiry": "0001-01-01T00:00:00Z"},
        {"expired": False},
        {"expired": True},
        {"expires": ""},
    ],
)
def test_a_missing_expiry_is_unknown(fields: dict[str, Any]) -> None:
    (entry,) = parse_bundle(HiddenBytes(json.dumps({"access_token": ACCESS, **fields}).encode()))
    assert isinstance(entry.credential, OAuthToken)
    assert entry.credential.expires_at is None
    assert unread_expiry(entry.credential) is None


@pytest.mark.parametrize("key", ["expires_on", "expiration", "exp", "token_expiry", "ExpiresOn", "expire_time"])
def test_a_field_that_may_be_the_expiry_and_is_not_read_is_named(key: str) -> None:
    (entry,) = parse_bundle(HiddenBytes(json.dumps({"access_token": ACCESS, key: END}).encode()))
    assert entry.credential is not None
    assert unread_expiry(entry.credential) == key


@pytest.mark.parametrize("key", ["refresh_token_expires_in", "refreshExpiry", "export", "expert", "x y expiry\n"])
def test_other_fields_are_not_taken_for_it(key: str) -> None:
    (entry,) = parse_bundle(HiddenBytes(json.dumps({"access_token": ACCESS, key: END}).encode()))
    assert entry.credential is not None
    assert unread_expiry(entry.credential) is None


@pytest.mark.parametrize("key", EXPIRIES)
def test_an_expiry_that_makes_no_sense_is_named_and_not_quoted(key: str) -> None:
    (entry,) = parse_bundle(HiddenBytes(json.dumps({"access_token": ACCESS, key: "soon"}).encode()))
    assert entry.fault.startswith(f'"{key}": ')
    assert "soon" not in entry.fault
