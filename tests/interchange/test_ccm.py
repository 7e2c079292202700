import json
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from msgspec.structs import replace

from interchange.strategies import SECRETS, TIMES, json_values, tokens
from leaks import leaks
from tokenferry.credentials import ApiKey, OAuthToken
from tokenferry.errors import UsageError
from tokenferry.interchange import ccm_login_providers, parse_ccm, parse_ccm_config, upsert_ccm
from tokenferry.secret import Fields, Secret
from tokenferry.stores import HiddenBytes

ACCESS = "sk-ant-oat01-" + "Aa1" * 30
REFRESH = "sk-ant-ort01-" + "Rr1" * 30
KEY = "sk-ant-api03-" + "Kk1" * 30
SECTION = {
    "provider_id": "claude-max",
    "access_token": ACCESS,
    "refresh_token": REFRESH,
    "expires_at": "2027-01-15T08:00:00.123456789Z",
}
CONFIG = """
[server]
port = 13456

[[providers]]
name = "main"
provider_type = "anthropic"
auth_type = "oauth"
oauth_provider = "claude-max"
models = []

[[providers]]
name = "by-variable"
provider_type = "anthropic"
api_key = "$MUX_KEY"

[[providers]]
name = "elsewhere"
provider_type = "openai"
base_url = "https://llm.example/v1"
api_key = "literal-key"

[[providers]]
name = "unset"
provider_type = "anthropic"
base_url = "https://api.anthropic.com"
api_key = "${MISSING}"
"""

sections = st.fixed_dictionaries(
    {"provider_id": st.just("p"), "access_token": SECRETS, "refresh_token": SECRETS | st.just("")},
    optional={
        "expires_at": TIMES.map(lambda seconds: seconds * 1000 + 1),
        "enterprise_url": st.just("https://ghe.example"),
        "unknown to us": json_values,
    },
)


def dump(value: Any) -> bytes:
    return HiddenBytes(json.dumps(value).encode())


def test_a_login_is_read_with_its_expiry_in_rfc_3339() -> None:
    (entry,) = parse_ccm(dump({"claude-max": SECTION}))
    assert entry.credential == OAuthToken(Secret(ACCESS), Secret(REFRESH), expires_at=1_800_000_000)
    assert (entry.key, entry.provider) == ("claude-max", "claude-max")
    assert parse_ccm(None) == ()


@pytest.mark.parametrize(
    ("text", "seconds"),
    [
        ("2027-01-15T08:00:00Z", 1_800_000_000),
        ("2027-01-15T09:00:00+01:00", 1_800_000_000),
        ("2027-01-15T08:00:00.999Z", 1_800_000_000),
        (1_800_000_000, 1_800_000_000),
        (1_800_000_000_999, 1_800_000_000),
    ],
)
def test_an_expiry_is_understood_in_each_of_its_spellings(text: Any, seconds: int) -> None:
    (entry,) = parse_ccm(dump({"claude-max": SECTION | {"expires_at": text}}))
    assert entry.credential is not None
    assert entry.credential.expires_at == seconds


def test_a_login_for_another_vendors_api_belongs_to_a_provider_of_that_name() -> None:
    section = {"access_token": "gho_x", "refresh_token": "ghr_y", "enterprise_url": "https://ghe.example"}
    (entry,) = parse_ccm(dump({"github-copilot": section}))
    assert entry.provider == "github-copilot"
    assert isinstance(entry.credential, OAuthToken)
    assert entry.credential.unknown == Fields(enterprise_url="https://ghe.example")


@pytest.mark.parametrize(
    ("change", "fault"),
    [
        ({"access_token": "", "refresh_token": ""}, "logged out"),
        ({"access_token": ""}, '"access_token" is blank'),
        ({"expires_at": "soon"}, '"expires_at": a time in words must be RFC 3339'),
        ({"expires_at": "2101-01-01T00:00:00Z"}, '"expires_at": a time must lie'),
        ({"expires_at": "0001-01-01T00:00:00+14:00"}, '"expires_at": a time must lie'),
    ],
)
def test_a_fault_of_one_login_is_that_login_s(change: dict[str, Any], fault: str) -> None:
    bad, good = parse_ccm(dump({"bad": SECTION | change, "good": SECTION}))
    assert fault in bad.fault
    assert bad.credential is None
    assert good.credential is not None


@pytest.mark.parametrize("content", [b"[]", b"5", b"{", dump({"p": ACCESS}), dump(ACCESS)])
def test_what_is_no_such_file_is_refused_without_a_word_of_what_it_holds(content: bytes) -> None:
    with pytest.raises(UsageError) as caught:
        parse_ccm(HiddenBytes(content))
    assert not leaks(caught.value, ACCESS)


@given(sections, json_values.map(lambda value: {"access_token": "other", "more": value}))
def test_writing_back_what_was_read_changes_nothing(section: dict[str, Any], beside: dict[str, Any]) -> None:
    document = {"other": beside, "p": section}
    entry = parse_ccm(dump(document))[1]
    assert isinstance(entry.credential, OAuthToken)
    if entry.credential.expires_at is None:
        with pytest.raises(UsageError, match="wants an expiry"):
            upsert_ccm(dump(document), entry.credential, "p")
        return
    assert json.loads(upsert_ccm(dump(document), entry.credential, "p")) == document


@given(tokens(expires_at=TIMES))
def test_a_login_that_was_put_in_is_read_with_its_tokens_and_expiry(token: OAuthToken) -> None:
    (entry,) = parse_ccm(upsert_ccm(None, token, "p"))
    assert entry.credential == OAuthToken(token.secret, token.refresh, expires_at=token.expires_at)


def test_a_new_login_is_as_the_program_wants_it() -> None:
    token = OAuthToken(Secret(ACCESS), expires_at=1_800_000_000)
    assert json.loads(upsert_ccm(None, token, "claude-max")) == {
        "claude-max": {
            "provider_id": "claude-max",
            "access_token": ACCESS,
            "refresh_token": "",
            "expires_at": "2027-01-15T08:00:00Z",
        }
    }


def test_fewer_tokens_are_never_written_over_more() -> None:
    raw = dump({"claude-max": SECTION})
    token = OAuthToken(Secret("another"), Secret("one"), expires_at=1_800_000_000)
    assert b"another" in upsert_ccm(raw, token, "claude-max")
    with pytest.raises(UsageError, match="never written over"):
        upsert_ccm(raw, replace(token, refresh=None), "claude-max")


def test_the_configuration_names_keys_by_variable_or_literally() -> None:
    entries = parse_ccm_config(HiddenBytes(CONFIG.encode()), {"MUX_KEY": KEY})
    assert [(entry.key, entry.provider, entry.fault) for entry in entries] == [
        ("by-variable", "anthropic", ""),
        ("elsewhere", "elsewhere", ""),
        ("unset", "anthropic", "MISSING is not set"),
    ]
    assert [entry.credential for entry in entries] == [ApiKey(Secret(KEY)), ApiKey(Secret("literal-key")), None]
    assert ccm_login_providers(HiddenBytes(CONFIG.encode())) == {"claude-max": "claude-max"}


@pytest.mark.parametrize("content", [b"providers = 5", f'key = "{KEY}'.encode()])
def test_a_configuration_that_is_none_is_refused_without_a_word_of_it(content: bytes) -> None:
    with pytest.raises(UsageError) as caught:
        parse_ccm_config(HiddenBytes(content), {})
    assert not leaks(caught.value, KEY)
