import json
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tokenferry.accounts import Content, Publication
from tokenferry.credentials import ApiKey, OAuthToken, SetupToken
from tokenferry.errors import CorruptFile, UsageError
from tokenferry.secret import Secret
from tokenferry.stores.anthropic_profiles import ProfileFolder

URL = "https://api.anthropic.com"
RECORD = Path("/records/1.json")
EXAMPLE = Publication("work", ProfileFolder(Path("/profiles")), "mine", URL, ("aa",), is_complete=True)


def test_a_profile_holds_the_access_token_alone_and_its_true_expiry() -> None:
    token = OAuthToken(Secret("access"), Secret("refresh"), expires_at=1_900_000_000, email="a@example.com")
    content = Content.of("mine", token, URL)
    assert json.loads(content.credentials()) == {
        "version": "1.0",
        "type": "oauth_token",
        "access_token": "access",
        "expires_at": 1_900_000_000,
    }
    assert json.loads(content.config()) == {"authentication": {"type": "user_oauth"}}


def test_requests_go_where_the_accounts_provider_is() -> None:
    content = Content.of("mine", OAuthToken(Secret("access")), "http://127.0.0.1:1/")
    assert json.loads(content.config())["base_url"] == "http://127.0.0.1:1"


def test_a_token_that_ends_who_knows_when_is_read_at_every_request_and_one_for_a_year_is_kept() -> None:
    assert Content.of("mine", OAuthToken(Secret("access")), URL).expires_at == 0
    token = Secret("sk-ant-oat01-" + "s" * 80)
    assert Content.of("mine", SetupToken(token), URL).expires_at is None
    assert Content.of("mine", SetupToken(token, expires_at=7), URL).expires_at == 7


def test_an_api_key_is_refused_with_the_reason() -> None:
    with pytest.raises(UsageError, match=r"a profile can hold only a token.*tokenferry token mine"):
        Content.of("mine", ApiKey(Secret("sk-ant-api03-x")), URL)


texts = st.text(max_size=10)


@given(texts, st.none() | texts, texts, st.lists(texts), st.booleans(), st.booleans(), st.none() | texts)
def test_a_record_reads_back(  # noqa: PLR0917  # hypothesis gives them in order
    profile: str,
    account: str | None,
    url: str,
    written: list[str],
    is_complete: bool,  # noqa: FBT001  # see above
    activated: bool,  # noqa: FBT001  # see above
    replaced: str | None,
) -> None:
    folder = ProfileFolder(Path("/profiles"))
    before = Publication(profile, folder, account, url, tuple(written), is_complete, activated, replaced)
    assert Publication.from_bytes(before.to_bytes(), RECORD) == before


@pytest.mark.parametrize(
    "changes",
    [
        {"version": 2},
        {"profile": 1},
        {"account": 1},
        {"written": [1]},
        {"written": "aa"},
        {"is_complete": 1},
        {"new": 1},
    ],
)
def test_a_record_of_another_shape_is_refused(changes: dict[str, object]) -> None:
    fields = json.loads(EXAMPLE.to_bytes())
    with pytest.raises(CorruptFile, match=r"/records/1\.json can't be understood"):
        Publication.from_bytes(json.dumps(fields | changes).encode(), RECORD)


@pytest.mark.parametrize("raw", [b"", b"[]", b"{}"])
def test_what_is_no_record_is_refused(raw: bytes) -> None:
    with pytest.raises(CorruptFile):
        Publication.from_bytes(raw, RECORD)


def test_its_source_is_named_for_people() -> None:
    assert EXAMPLE.source == "account mine"
    assert Publication("p", EXAMPLE.folder, None, URL).source == "the gateway"
