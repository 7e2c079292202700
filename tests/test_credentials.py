import re
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from msgspec.structs import replace

from leaks import leaks, shows
from tokenferry.anthropic_beta import OAUTH_BETA
from tokenferry.credentials import (
    ApiKey,
    Credential,
    ExchangedToken,
    FederatedToken,
    Federation,
    OAuthToken,
    SetupToken,
    credential_from_json,
    epoch_seconds,
)
from tokenferry.errors import UsageError
from tokenferry.secret import Fields, Secret

ACCESS = "sk-ant-oat01-" + "Aa0" * 30
REFRESH = "sk-ant-ort01-" + "Rr1" * 30
LATEST = 4_102_444_800

secrets = st.text(st.characters(min_codepoint=0x21, max_codepoint=0x7E), min_size=1).map(Secret)
setup_secrets = st.text("abcXYZ019-_", min_size=70).map(lambda tail: Secret("sk-ant-oat01-" + tail))
times = st.none() | st.integers(0, LATEST)
texts = st.none() | st.text(min_size=1)
scopes = st.lists(st.text(min_size=1)).map(tuple)
JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.text() | st.floats(allow_nan=False),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(), inner, max_size=3),
    max_leaves=5,
)


def unknown(known: set[str]) -> st.SearchStrategy[Fields]:
    return st.dictionaries(st.text().filter(lambda key: key not in known), JSON, max_size=3).map(Fields)


OAUTH_KEYS = {*OAuthToken.__struct_fields__} - {"secret", "refresh", "unknown"}
OAUTH_KEYS |= {"access_token", "refresh_token"}
FEDERATED_KEYS = {"identity_token_file", "identity_token_variable", "federation"}
SECRET_KEYS = {"key", "token", "access_token", "refresh_token"}

credentials = st.one_of(
    st.builds(ApiKey, secrets, unknown=unknown({"key"})),
    st.builds(
        SetupToken,
        setup_secrets,
        obtained_at=times,
        expires_at=times,
        unknown=unknown({"token", "obtained_at", "expires_at"}),
    ),
    st.builds(
        OAuthToken,
        secrets,
        refresh=st.none() | secrets,
        scopes=scopes,
        expires_at=times,
        obtained_at=times,
        refresh_expires_at=times,
        lifetime=st.none() | st.integers(1, 10**6),
        subscription_type=texts,
        rate_limit_tier=texts,
        email=texts,
        account_id=texts,
        organization_id=texts,
        source=texts,
        unknown=unknown(OAUTH_KEYS),
    ),
    st.builds(
        FederatedToken,
        secrets,
        scopes=scopes,
        expires_at=times,
        lifetime=st.none() | st.integers(1, 10**6),
        unknown=unknown(OAUTH_KEYS | FEDERATED_KEYS),
        federation=st.builds(
            Federation,
            st.text(min_size=1),
            parameters=st.dictionaries(st.text(), st.text(), max_size=3).map(lambda table: tuple(table.items())),
        ),
    ),
)


# -- JSON


@settings(deadline=None)
@given(credentials)
def test_what_is_written_is_read_back_whole(credential: Credential) -> None:
    again = credential_from_json(credential.kind, credential.to_json())
    assert again == credential
    assert again.unknown == credential.unknown
    assert again.to_json() == credential.to_json()


@settings(deadline=None)
@given(credentials)
def test_nothing_is_invented(credential: Credential) -> None:
    """No key for what isn't known: no null, no blank token, no empty list."""
    written = credential.to_json().without(*credential.unknown)
    assert None not in written.values()
    assert "" not in written.values()
    assert [] not in written.values()


@settings(deadline=None)
@given(st.sampled_from(["api-key", "setup-token", "oauth", "federated"]), st.data())
def test_junk_raises_nothing_but_usage_error_and_costs_no_token(kind: str, data: st.DataObject) -> None:
    keys = OAUTH_KEYS | FEDERATED_KEYS | SECRET_KEYS
    # Where the identity token is may be told; whatever else holds a token, tells it to nobody.
    values = {
        key: JSON | st.just([ACCESS]) | (st.nothing() if key in FEDERATED_KEYS else st.just(ACCESS)) for key in keys
    }
    drawn = data.draw(st.lists(st.sampled_from(sorted(keys)), max_size=5, unique=True))
    junk = Fields({key: data.draw(values[key]) for key in drawn})
    try:
        credential = credential_from_json(kind, junk)
    except UsageError as fault:
        assert not leaks(fault, ACCESS)  # noqa: PT017  # either outcome is right
        return
    written = credential.to_json()
    for name in SECRET_KEYS:
        is_taken = name != "refresh_token" or kind != "federated"  # which has none
        if isinstance(junk.get(name), str) and junk[name] and is_taken:
            assert written[name] == junk[name].strip()


@pytest.mark.parametrize(
    "federation",
    [{}, {"identity_token_file": 1}, {"identity_token_file": "here", "federation": ACCESS}],
)
def test_no_frame_of_a_refusal_shows_a_token_that_came_in_another_field(federation: dict[str, Any]) -> None:
    with pytest.raises(UsageError) as caught:
        credential_from_json("federated", Fields(access_token=ACCESS, account_id=ACCESS, **federation))
    assert not leaks(caught.value, ACCESS)


@pytest.mark.parametrize("kind", ["", "API-KEY", "oauth2", "Federated"])
def test_an_unknown_kind_is_refused(kind: str) -> None:
    with pytest.raises(UsageError, match="api-key, setup-token, oauth, federated or exchanged"):
        credential_from_json(kind, Fields(key="x"))


@pytest.mark.parametrize(
    ("given", "words"),
    [
        ({}, "name exactly one of them"),
        ({"identity_token_file": "/a", "identity_token_variable": "B"}, "name exactly one of them"),
        ({"identity_token_file": ""}, "name exactly one of them"),
        ({"identity_token_file": 5}, '"identity_token_file" must be a string'),
        ({"identity_token_file": "/a", "federation": {"a": 5}}, '"federation" must hold only strings'),
        ({"identity_token_file": "/a", "federation": ACCESS}, '"federation" must hold only strings'),
    ],
)
def test_a_federation_that_says_too_little_or_too_much_is_refused(given: dict[str, Any], words: str) -> None:
    with pytest.raises(UsageError, match=re.escape(words)) as caught:
        credential_from_json("federated", Fields({"access_token": ACCESS} | given))
    assert not leaks(caught.value, ACCESS)


def test_a_federated_token_has_no_refresh_token_whatever_is_written() -> None:
    federation = Federation(variable="IDENTITY")
    token = FederatedToken.of(
        OAuthToken(Secret(ACCESS), Secret(REFRESH), expires_at=5, email="a@b.example"), federation
    )
    assert (token.refresh, token.is_renewable, token.expires_at, token.email) == (None, True, 5, "a@b.example")
    assert token.kind == "federated"
    assert token.headers() == OAuthToken(Secret(ACCESS)).headers()
    given = Fields(access_token=ACCESS, refresh_token=REFRESH, identity_token_variable="IDENTITY")
    read = credential_from_json("federated", given)
    assert isinstance(read, FederatedToken)
    assert (read.refresh, read.federation) == (None, federation)
    assert "refresh_token" not in read.to_json()


GOOD = {"access_token": ACCESS, "refresh_token": REFRESH}
WRONG: dict[str, tuple[object, ...]] = {
    "refresh_token": (5, True, [REFRESH], {}, [], "a\x00b"),
    "email": (5, [ACCESS], {ACCESS: 1}),
    "scopes": (5, [ACCESS, 5], {ACCESS: 1}),
    "expires_at": (ACCESS, True, [], -1, LATEST + 1, 10**400),
    "lifetime": (ACCESS, True, [], -1, 10**400),
}


@pytest.mark.parametrize(
    ("kind", "data", "field"),
    [
        ("api-key", {}, "key"),
        ("api-key", {"key": [ACCESS]}, "key"),
        ("api-key", {"key": f"{ACCESS}\n{ACCESS}"}, "key"),
        ("api-key", {"key": "  "}, "key"),
        ("setup-token", {"key": ACCESS}, "token"),
        ("setup-token", {"token": ACCESS, "expires_at": ACCESS}, "expires_at"),
        ("oauth", {"refresh_token": REFRESH}, "access_token"),
        ("oauth", {"access_token": None, "refresh_token": REFRESH}, "access_token"),
        *[("oauth", GOOD | {name: bad}, name) for name, several in WRONG.items() for bad in several],
    ],
)
def test_a_wrong_type_is_reported_by_field_and_never_by_value(kind: str, data: dict[str, Any], field: str) -> None:
    with pytest.raises(UsageError, match=f'"{field}"') as caught:
        credential_from_json(kind, Fields(data))
    assert not leaks(caught.value, ACCESS, REFRESH)


def test_blanks_around_a_token_are_no_part_of_it() -> None:
    token = credential_from_json("oauth", Fields(access_token=f" {ACCESS}\n", refresh_token=f"\t{REFRESH}\r\n"))
    assert token == OAuthToken(Secret(ACCESS), Secret(REFRESH))


@pytest.mark.parametrize("absent", [None, ""])
def test_a_blank_refresh_token_is_none(absent: str | None) -> None:
    token = credential_from_json("oauth", Fields(access_token=ACCESS, refresh_token=absent))
    assert token == OAuthToken(Secret(ACCESS))
    assert "refresh_token" not in token.to_json()


def test_scopes_may_be_one_string_as_in_rfc_6749() -> None:
    token = credential_from_json("oauth", Fields(access_token=ACCESS, scopes="user:profile  user:inference"))
    assert token == OAuthToken(Secret(ACCESS), scopes=("user:profile", "user:inference"))


# -- what a credential shows, and that it is a value


def test_a_credential_shows_no_secret_and_nothing_of_what_it_does_not_know() -> None:
    odd = Fields(session=ACCESS)
    for credential in (
        ApiKey(Secret(ACCESS), unknown=odd),
        SetupToken(Secret(ACCESS), unknown=odd),
        OAuthToken(Secret(ACCESS), Secret(REFRESH), unknown=odd),
    ):
        assert not shows(f"{credential} {credential!r}", ACCESS, REFRESH)
        with pytest.raises(AttributeError, match="immutable"):
            credential.secret = Secret("other")  # type: ignore[misc]  # that it can't be is the point


@settings(deadline=None)
@given(credentials)
def test_a_credential_is_a_value(credential: Credential) -> None:
    again = replace(credential)
    assert hash(again) == hash(credential)
    assert again == credential


# -- setup tokens


@pytest.mark.parametrize(
    "value",
    [
        "sk-ant-oat01-" + "x" * 66,
        "sk-ant-api03-" + "x" * 80,
        "sk-ant-ort01-" + "x" * 80,
        "SK-ANT-OAT01-" + "x" * 80,
        "x" * 80,
    ],
)
def test_a_setup_token_has_its_prefix_and_length(value: str) -> None:
    with pytest.raises(UsageError, match="claude setup-token") as caught:
        SetupToken(Secret(value))
    assert not [leak for leak in leaks(caught.value, value[13:]) if "message" not in leak]


def test_the_shortest_setup_token_has_eighty_characters() -> None:
    assert SetupToken(Secret("sk-ant-oat01-" + "x" * 67)).expires_at is None


# -- times


@settings(deadline=None)
@given(st.integers(0, LATEST))
def test_seconds_stay_seconds(value: int) -> None:
    assert epoch_seconds(value) == epoch_seconds(value, foreign=True) == epoch_seconds(float(value)) == value


@settings(deadline=None)
@given(st.integers(10_000_000_001, LATEST * 1000))
def test_milliseconds_are_read_in_foreign_files_alone(value: int) -> None:
    assert epoch_seconds(value, foreign=True) == value // 1000
    with pytest.raises(UsageError, match="unit mistake"):
        epoch_seconds(value)


@settings(deadline=None)
@given(st.none() | st.booleans() | st.text() | st.lists(st.integers()) | st.integers() | st.floats(), st.booleans())
def test_a_time_is_between_1970_and_2100_or_refused(value: object, foreign: bool) -> None:  # noqa: FBT001  # drawn
    try:
        assert 0 <= epoch_seconds(value, foreign=foreign) <= LATEST
    except UsageError as fault:
        assert "1970" in str(fault)  # noqa: PT017  # either outcome is right


@pytest.mark.parametrize("value", [-1, LATEST + 1, 1e10, 10**400, -(10**400), 1e308, float("inf"), float("nan"), True])
@pytest.mark.parametrize("foreign", [False, True])
def test_what_is_no_time_is_refused_in_any_file(value: object, foreign: bool) -> None:  # noqa: FBT001  # a case
    with pytest.raises(UsageError, match="1970"):
        epoch_seconds(value, foreign=foreign)


# -- headers


def test_each_kind_has_its_headers() -> None:
    assert ApiKey(Secret("sk-1")).headers() == (("x-api-key", "sk-1"),)
    bearer = (("authorization", f"Bearer {ACCESS}"), ("anthropic-beta", OAUTH_BETA))
    assert SetupToken(Secret(ACCESS)).headers() == OAuthToken(Secret(ACCESS), Secret(REFRESH)).headers() == bearer


def test_an_exchanged_token_is_stored_with_what_it_was_got_for() -> None:
    subject = Secret("gho_" + "s" * 36)
    token = ExchangedToken(Secret("api-token"), subject=subject, endpoint="https://api.example.com", expires_at=1)
    stored = token.to_json()
    assert (stored["subject_token"], stored["endpoint"]) == (subject.reveal(), "https://api.example.com")
    assert credential_from_json("exchanged", stored) == token
    assert subject.reveal() not in repr(token)
    with pytest.raises(UsageError, match='"subject_token" is missing'):
        credential_from_json("exchanged", stored.without("subject_token"))
