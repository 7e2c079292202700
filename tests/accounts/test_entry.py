import json
from typing import get_args

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from leaks import leaks
from tokenferry.accounts import read_credential
from tokenferry.credentials import ApiKey, Credential, Kind, OAuthToken, SetupToken
from tokenferry.errors import UsageError
from tokenferry.secret import Fields, Secret

KEY = "sk-ant-api03-" + "Aa0" * 30
TOKEN = "sk-ant-oat01-" + "Bb1" * 30
REFRESH = "sk-ant-ort01-" + "Rr1" * 30
LOGIN = json.dumps({"access_token": TOKEN, "refresh_token": REFRESH, "expires_at": 1_800_000_000})
LOGIN_TOKEN = OAuthToken(Secret(TOKEN), Secret(REFRESH), expires_at=1_800_000_000, source="added")
KINDS: tuple[Kind, ...] = get_args(Kind)


@pytest.mark.parametrize(
    ("text", "kind", "default", "credential"),
    [
        (KEY, None, "api-key", ApiKey(Secret(KEY))),
        (KEY, None, "oauth", ApiKey(Secret(KEY))),
        (KEY, "api-key", "oauth", ApiKey(Secret(KEY))),
        ("any-key", None, "api-key", ApiKey(Secret("any-key"))),
        ("any-key", "api-key", "setup-token", ApiKey(Secret("any-key"))),
        (TOKEN, None, "api-key", SetupToken(Secret(TOKEN))),
        (TOKEN, None, "oauth", SetupToken(Secret(TOKEN))),
        (TOKEN, "setup-token", "api-key", SetupToken(Secret(TOKEN))),
        (LOGIN, None, "api-key", LOGIN_TOKEN),
        (LOGIN, None, "setup-token", LOGIN_TOKEN),
        (LOGIN, "oauth", "api-key", LOGIN_TOKEN),
    ],
)
def test_the_kind_is_the_one_named_else_what_it_looks_like_else_the_provider_s(
    text: str, kind: Kind | None, default: Kind, credential: Credential
) -> None:
    assert read_credential(text.encode(), kind, default) == credential
    assert read_credential(f"  {text}\r\n".encode(), kind, default) == credential


def test_other_spellings_of_a_login_s_fields_are_understood() -> None:
    fields = {"access_token": TOKEN, "scope": "a b", "account_email": "me@mail.example", "account_uuid": "u", "x": 1}
    assert read_credential(json.dumps(fields).encode(), None, "oauth") == OAuthToken(
        Secret(TOKEN), scopes=("a", "b"), email="me@mail.example", account_id="u", source="added", unknown=Fields(x=1)
    )


def test_our_own_spelling_comes_before_another() -> None:
    fields = {"access_token": TOKEN, "scope": "a", "scopes": ["b"]}
    credential = read_credential(json.dumps(fields).encode(), None, "oauth")
    assert credential == OAuthToken(Secret(TOKEN), scopes=("b",), source="added")


def test_a_login_that_says_where_it_came_from_keeps_that() -> None:
    credential = read_credential(json.dumps({"access_token": TOKEN, "source": "elsewhere"}).encode(), None, "oauth")
    assert credential == OAuthToken(Secret(TOKEN), source="elsewhere")


@pytest.mark.parametrize(
    ("text", "kind", "reason"),
    [
        ("", "api-key", "the api-key given is not usable: a secret must not be empty"),
        (" \n", "setup-token", "the setup-token given is not usable: a secret must not be empty"),
        ("", "oauth", "one JSON object"),
        (f"{KEY} {KEY}", "api-key", "printable ASCII"),
        (f"{KEY}\n{KEY}", "api-key", "printable ASCII"),
        (f"{KEY}\x00", "api-key", "printable ASCII"),
        (f"\u201c{KEY}\u201d", "api-key", "paste the key alone, without quotes"),
        (KEY, "setup-token", "make one with `claude setup-token`"),
        (TOKEN[:79], "setup-token", "at least 80 characters"),
        (TOKEN[:79], None, "at least 80 characters"),
        (KEY, "oauth", "one JSON object"),
        (LOGIN[:-5], "oauth", "one JSON object"),
        (f'["{TOKEN}"]', "oauth", "one JSON object"),
        ("{}", None, '"access_token" is missing'),
        (json.dumps({"refresh_token": REFRESH}), None, '"access_token" is missing'),
        (json.dumps({"access_token": [TOKEN]}), None, '"access_token" is missing'),
        (json.dumps({"access_token": TOKEN, "refresh_token": {REFRESH: 1}}), None, '"refresh_token"'),
        (json.dumps({"access_token": TOKEN, "expires_at": 1_800_000_000_000}), None, "milliseconds are a unit mistake"),
        (json.dumps({"access_token": TOKEN, "scope": {TOKEN: 1}}), None, '"scopes"'),
    ],
)
def test_what_is_not_usable_is_reported_without_a_trace_of_it(text: str, kind: Kind | None, reason: str) -> None:
    with pytest.raises(UsageError) as caught:
        read_credential(text.encode(), kind, "api-key")
    assert reason in str(caught.value)
    assert not leaks(caught.value, KEY, TOKEN, REFRESH)


@settings(deadline=None)
@given(
    st.binary() | st.text().map(str.encode) | st.binary(max_size=20).map(lambda tail: LOGIN.encode()[:-8] + tail),
    st.sampled_from([None, *KINDS]),
    st.sampled_from(KINDS),
)
def test_junk_is_a_usage_error_or_a_credential(raw: bytes, kind: Kind | None, default: Kind) -> None:
    try:
        credential = read_credential(raw, kind, default)
    except UsageError as fault:
        assert not leaks(fault, TOKEN, REFRESH)  # noqa: PT017  # either outcome is right
        return
    assert kind is None or credential.kind == kind
