import json
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from msgspec.structs import replace

from interchange.strategies import SECRETS, TIMES, json_values, tokens
from leaks import leaks
from tokenferry.credentials import OAuthToken
from tokenferry.errors import UsageError
from tokenferry.interchange import parse_pool, upsert_pool, without_refresh
from tokenferry.secret import Secret
from tokenferry.stores import HiddenBytes

ACCESS = "sk-ant-oat01-" + "Aa1" * 30
REFRESH = "sk-ant-ort01-" + "Rr1" * 30
MAIL = "me@mail.example"
SECTION = {
    "email": MAIL,
    "accessToken": ACCESS,
    "refreshToken": REFRESH,
    "expiresAt": 1_800_000_000_123,
    "scopes": ["user:inference", "user:profile"],
    "subscriptionType": "max",
    "rateLimitTier": "default_claude_max_20x",
    "rateLimited": True,
    "rateLimitResetAt": 1_800_000_500_000,
}
TOKEN = OAuthToken(
    Secret(ACCESS),
    Secret(REFRESH),
    expires_at=1_800_000_000,
    scopes=("user:inference", "user:profile"),
    subscription_type="max",
    rate_limit_tier="default_claude_max_20x",
    email=MAIL,
)

sections = st.fixed_dictionaries(
    {"accessToken": SECRETS},
    optional={
        "email": st.just(MAIL),
        "refreshToken": st.one_of(SECRETS, st.just("")),
        "expiresAt": TIMES.map(lambda seconds: seconds * 1000 + 7),
        "scopes": st.lists(st.sampled_from(["user:inference", "user:profile"])),
        "subscriptionType": st.sampled_from(["max", "pro"]),
        "rateLimitTier": st.text(min_size=1),
        "rateLimited": st.booleans(),
        "rateLimitResetAt": TIMES.map(lambda seconds: seconds * 1000),
        "unknown to us": json_values,
    },
)


def dump(value: Any) -> bytes:
    return json.dumps(value).encode()


def pool(section: dict[str, Any]) -> bytes:
    return dump({"accounts": {MAIL: section}})


@pytest.mark.parametrize(
    "document",
    [
        {"accounts": {MAIL: SECTION}, "version": 1},
        {"accounts": [SECTION]},
        {MAIL: SECTION},
        [SECTION],
    ],
    ids=["map under accounts", "list under accounts", "bare map", "bare list"],
)
def test_every_field_is_read_in_whatever_shape_the_accounts_are(document: Any) -> None:
    (entry,) = parse_pool(dump(document))
    assert entry.credential == TOKEN
    assert (entry.key, entry.provider) == (MAIL, "claude-max")
    assert (entry.is_limited, entry.limited_until) == (True, 1_800_000_500)


def test_an_absent_or_empty_file_is_an_empty_pool() -> None:
    assert parse_pool(None) == parse_pool(b"") == parse_pool(b"{}") == parse_pool(b'{"accounts": {}}') == ()


def test_the_key_replaces_a_missing_e_mail_and_a_blank_counts_as_missing() -> None:
    (entry,) = parse_pool(pool({"accessToken": ACCESS, "refreshToken": "", "expiresAt": 1_800_000_000}))
    assert entry.credential == OAuthToken(Secret(ACCESS), expires_at=1_800_000_000, email=MAIL)


@pytest.mark.parametrize(
    ("section", "fault"),
    [
        ({"accessToken": "", "refreshToken": "", "expiresAt": 0}, "logged out"),
        ({"accessToken": "", "refreshToken": REFRESH}, '"accessToken" is blank'),
        ({"accessToken": ACCESS, "expiresAt": 4_102_444_801_000}, '"expiresAt": a time must lie'),
        ({"accessToken": ACCESS, "expiresAt": ACCESS}, '"expiresAt": a time in words must be RFC 3339'),
        ({"accessToken": "two words"}, '"accessToken": a secret must be printable'),
        ({"accessToken": 5}, '"accessToken" is not a string'),
    ],
)
def test_a_fault_of_one_account_is_that_account_s(section: dict[str, Any], fault: str) -> None:
    entries = parse_pool(dump({"accounts": {"bad@mail.example": section, MAIL: SECTION}}))
    assert fault in entries[0].fault
    assert ACCESS not in entries[0].fault
    assert entries[0].credential is None
    assert entries[1].credential == TOKEN


@pytest.mark.parametrize(
    "content", [b"null", b'"' + ACCESS.encode() + b'"', b"{", dump({"accounts": 5}), dump([ACCESS])]
)
def test_what_is_no_pool_is_refused_without_a_word_of_what_it_holds(content: bytes) -> None:
    raw = HiddenBytes(content)
    for refused in (lambda: parse_pool(raw), lambda: upsert_pool(raw, TOKEN)):
        with pytest.raises(UsageError) as caught:
            refused()
        assert not leaks(caught.value, ACCESS, REFRESH)


@given(sections, st.sampled_from(["map", "list", "bare map", "bare list"]), json_values)
def test_writing_back_what_was_read_changes_nothing(section: dict[str, Any], shape: str, beside: Any) -> None:
    section["email"] = MAIL
    section.setdefault("refreshToken", "")
    section.setdefault("expiresAt", 0)
    accounts: Any = {"other@mail.example": {"accessToken": "x", "more": beside}, MAIL: section}
    accounts = list(accounts.values()) if "list" in shape else accounts
    document = accounts if "bare" in shape else {"before": beside, "accounts": accounts}
    entry = next(entry for entry in parse_pool(dump(document)) if entry.key == MAIL)
    assert isinstance(entry.credential, OAuthToken)
    assert json.loads(upsert_pool(dump(document), entry.credential)) == document


@given(tokens(email=st.just(MAIL)))
def test_a_login_that_was_put_in_is_read_as_it_was(token: OAuthToken) -> None:
    (entry,) = parse_pool(upsert_pool(None, token))
    assert entry.credential == replace(
        token,
        refresh_expires_at=None,
        obtained_at=None,
        lifetime=None,
        account_id=None,
        organization_id=None,
        source=None,
    )


@given(sections, tokens(email=st.just(MAIL)))
def test_fewer_tokens_are_never_written_over_more(section: dict[str, Any], token: OAuthToken) -> None:
    raw = pool(section)
    if section.get("refreshToken") and token.refresh is None:
        with pytest.raises(UsageError, match="never written over"):
            upsert_pool(raw, token)
        return
    after = json.loads(upsert_pool(raw, token))["accounts"][MAIL]
    assert after["accessToken"] == token.secret.reveal()
    assert after["refreshToken"] == (token.refresh.reveal() if token.refresh else "")
    assert after.get("unknown to us") == section.get("unknown to us")
    assert after.get("rateLimited") == section.get("rateLimited")


def test_accounts_are_distinguished_by_e_mail_whatever_its_case() -> None:
    raw = upsert_pool(upsert_pool(None, TOKEN), TOKEN, email="Me@Mail.Example")
    assert len(parse_pool(raw)) == 1
    assert len(parse_pool(upsert_pool(raw, TOKEN, email="you@mail.example"))) == 2
    with pytest.raises(UsageError, match="knows its accounts by e-mail"):
        upsert_pool(None, replace(TOKEN, email=None))


def test_what_is_not_known_is_left_out_and_costs_nothing_that_is_there() -> None:
    bare = OAuthToken(Secret(ACCESS), email=MAIL)
    assert json.loads(upsert_pool(None, bare)) == {
        "accounts": {MAIL: {"accessToken": ACCESS, "refreshToken": "", "expiresAt": 0, "email": MAIL}}
    }
    after = json.loads(upsert_pool(pool({**SECTION, "refreshToken": ""}), bare))["accounts"][MAIL]
    assert after["subscriptionType"] == "max"
    assert after["expiresAt"] == 0  # not that of another token


def test_limits_are_put_in_and_taken_out() -> None:
    raw = upsert_pool(None, TOKEN, rate_limited=True, rate_limit_reset_at=1_800_000_500)
    section = json.loads(raw)["accounts"][MAIL]
    assert (section["rateLimited"], section["rateLimitResetAt"]) == (True, 1_800_000_500_000)
    kept = json.loads(upsert_pool(raw, TOKEN))["accounts"][MAIL]
    assert kept == section
    freed = json.loads(upsert_pool(raw, TOKEN, rate_limited=False))["accounts"][MAIL]
    assert not {"rateLimited", "rateLimitResetAt"} & set(freed)


def test_a_view_has_the_real_expiry_and_no_chain() -> None:
    view = without_refresh(replace(TOKEN, refresh_expires_at=1_900_000_000))
    assert view == replace(TOKEN, refresh=None)
