"""JSON of other programs may begin with a byte order mark: editors of Windows and PowerShell write one."""

import json

import pytest

from tokenferry.accounts import read_credential
from tokenferry.claude_code import parse as parse_document
from tokenferry.interchange import Format, detect, parse
from tokenferry.stores import HiddenBytes
from tokenferry.stores.anthropic_profiles._document import parse_config, parse_credentials

ACCESS = "sk-ant-oat01-" + "Aa1" * 30
KEY = "sk-ant-api03-" + "Kk1" * 30
LOGIN = {"access_token": ACCESS, "refresh_token": "r", "expires_at": 1_800_000_000}
CONTENTS: dict[Format, str] = {
    "bundle": json.dumps(LOGIN),
    "profile": json.dumps({**LOGIN, "version": "1.0", "type": "oauth_token"}),
    "claude-code": json.dumps({"claudeAiOauth": {"accessToken": ACCESS, "refreshToken": "r", "expiresAt": 1}}),
    "pool": json.dumps({"accounts": {"me@mail.example": {"accessToken": ACCESS, "refreshToken": "r"}}}),
    "ccm": json.dumps({"claude-max": {**LOGIN, "provider_id": "claude-max", "expires_at": "2027-01-15T08:00:00Z"}}),
    "ccm-config": f'[[providers]]\nname = "mux"\napi_key = "{KEY}"\n',
    "env": f"ANTHROPIC_API_KEY={KEY}\n",
    "key-file": f"{KEY}\n",
}


@pytest.mark.parametrize("encoding", ["utf-8", "utf-8-sig", "utf-16"])
@pytest.mark.parametrize("form", CONTENTS)
def test_a_file_is_read_with_a_byte_order_mark_as_without(form: Format, encoding: str) -> None:
    raw = HiddenBytes(CONTENTS[form].encode(encoding))
    assert detect(raw) == form
    (entry,) = parse(raw, form, {})
    assert entry.credential is not None, entry.fault
    assert entry.credential.secret.reveal() in {ACCESS, KEY}


def test_what_is_piped_in_may_have_one() -> None:
    assert read_credential(json.dumps(LOGIN).encode("utf-8-sig"), None, "api-key").kind == "oauth"
    assert read_credential(KEY.encode("utf-8-sig"), None, "api-key").secret.reveal() == KEY


def test_the_documents_that_are_used_in_place_may_have_one() -> None:
    login = parse_document(HiddenBytes(CONTENTS["claude-code"].encode("utf-8-sig")))
    assert login.state == "logged-in"
    config = HiddenBytes(json.dumps({"authentication": {"type": "user_oauth"}}).encode("utf-8-sig"))
    assert parse_config(config, "a profile").type == "user_oauth"
    token = parse_credentials(HiddenBytes(CONTENTS["profile"].encode("utf-8-sig")), "a profile")
    assert token is not None
    assert token.secret.reveal() == ACCESS
