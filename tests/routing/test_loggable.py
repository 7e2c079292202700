"""Of what a client sends, logs and records hold plain words alone, and no token."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tokenferry.routing import loggable, loggable_path
from tokenferry.routing._loggable import loggable_name, loggable_text

TOKENS = ("sk-ant-api03-hush", "tfk_hush", "tfa_hush", "eyJhbGciOi.hush")


@given(before=st.text(max_size=140), token=st.sampled_from(TOKENS), after=st.text(max_size=9))
def test_nothing_that_is_written_holds_a_token(before: str, token: str, after: str) -> None:
    text = before + token + after
    whole = loggable(text), loggable(text.encode()), loggable_name(text)
    assert whole == (None, None, None)
    assert "hush" not in loggable_text(text)
    assert "hush" not in loggable_path(text.encode())


@pytest.mark.parametrize("value", ["", "a b", "a\x1b[31m", "a\r\nb", 'a"', "a=b", "\xff", "x" * 129])
def test_odd_and_long_words_are_left_out(value: str) -> None:
    assert loggable(value) is None
    assert loggable(value.encode("latin-1")) is None


@pytest.mark.parametrize("value", ["0f7c1d2e-8b7a-4c1d-9f00-1234567890ab", "agent_a.1:2", "claude-opus-4-5", "x" * 128])
def test_plain_words_are_written(value: str) -> None:
    assert loggable(value) == loggable(value.encode()) == loggable_name(value) == value


@pytest.mark.parametrize(("value", "is_written"), [("my größtes [1m]", True), ("a\nb", False), ("ä" * 129, False)])
def test_a_name_may_hold_what_the_configuration_may(value: str, *, is_written: bool) -> None:
    assert loggable_name(value) == (value if is_written else None)


def test_paths_and_sentences_are_written_in_part_and_without_tokens() -> None:
    assert loggable_path(b"/v1/sk-ant-api03-hush/x") == "/v1/[redacted]/x"
    assert loggable_text("no model tfk_hush here") == "no model [redacted] here"
    assert (len(loggable_path(b"/" + b"x" * 5000)), len(loggable_text("x" * 5000))) == (128, 500)
