import contextlib
import json
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from interchange.strategies import TIMES, tokens
from leaks import leaks
from tokenferry.credentials import ApiKey, OAuthToken
from tokenferry.errors import UsageError
from tokenferry.interchange import (
    FORMATS,
    detect,
    parse,
    render_bundle,
    render_claude_code,
    render_environment,
    render_key_file,
    render_profile,
    upsert_ccm,
    upsert_pool,
)
from tokenferry.secret import Secret
from tokenferry.stores import HiddenBytes

KEY = "sk-ant-api03-" + "Kk1" * 30


def dump(value: Any) -> bytes:
    return HiddenBytes(json.dumps(value).encode())


@given(tokens(email=st.emails(), expires_at=TIMES))
def test_what_is_written_is_known_by_its_content_and_holds_the_same_tokens(token: OAuthToken) -> None:
    documents = {
        "pool": upsert_pool(None, token),
        "ccm": upsert_ccm(None, token, "some-provider"),
        "bundle": render_bundle(token),
        "claude-code": render_claude_code(token),
        "profile": render_profile(token),
    }
    for name, raw in documents.items():
        assert detect(raw) == name
        (entry,) = parse(raw, detect(raw))
        assert isinstance(entry.credential, OAuthToken)
        assert (entry.credential.secret, entry.credential.refresh) == (token.secret, token.refresh)
        assert entry.credential.expires_at == token.expires_at


@pytest.mark.parametrize(
    ("content", "form"),
    [
        (f"{KEY}\n".encode(), "key-file"),
        (f"ANTHROPIC_API_KEY={KEY}\n".encode(), "env"),
        (f"# mine\nexport ANTHROPIC_API_KEY={KEY}".encode(), "env"),
        (b'[[providers]]\nname = "x"\n', "ccm-config"),
        (dump({"claudeAiOauth": {"accessToken": ""}}), "claude-code"),
        (dump([{"accessToken": "x"}]), "pool"),
        (dump({"accounts": {}}), "pool"),
    ],
)
def test_formats_are_known_by_their_content(content: bytes, form: str) -> None:
    assert detect(HiddenBytes(content)) == form


def test_a_logged_out_login_is_reported_as_one() -> None:
    (entry,) = parse(dump({"claudeAiOauth": {"accessToken": "", "refreshToken": "", "expiresAt": 0}}), "claude-code")
    assert (entry.fault, entry.credential) == ("logged out", None)


def test_a_broken_document_of_claude_code_is_refused() -> None:
    with pytest.raises(UsageError, match='"accessToken" is not a string'):
        parse(dump({"claudeAiOauth": {"accessToken": 5}}), "claude-code")


@pytest.mark.parametrize("content", [b"", b"{}", b"[]", b"[5]", f"some words {KEY}".encode(), dump({"k": KEY})])
def test_what_is_nothing_known_is_refused_with_the_names_of_what_is(content: bytes) -> None:
    with pytest.raises(UsageError, match="none of the formats known here") as caught:
        detect(HiddenBytes(content))
    assert all(form in str(caught.value) for form in FORMATS)
    assert not leaks(caught.value, KEY)


def test_a_profile_s_configuration_is_named_as_what_it_is() -> None:
    with pytest.raises(UsageError, match="holds no token; attach the profile"):
        detect(dump({"authentication": {"type": "user_oauth"}}))


@given(st.binary(max_size=200) | st.text(max_size=200).map(str.encode))
def test_no_content_raises_anything_but_a_usage_error(content: bytes) -> None:
    for form in FORMATS:
        with contextlib.suppress(UsageError):
            parse(HiddenBytes(content), form, {})
    with contextlib.suppress(UsageError):
        detect(HiddenBytes(content))


def test_a_rendered_key_file_and_variable_are_distinguished() -> None:
    key = ApiKey(Secret(KEY))
    assert (detect(render_key_file(key)), detect(render_environment(key))) == ("key-file", "env")
