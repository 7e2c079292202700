import pytest
from hypothesis import given
from hypothesis import strategies as st

from tokenferry.cli._output import note, printable, redacted


@given(st.text())
def test_printable_text_holds_nothing_that_a_terminal_obeys(text: str) -> None:
    assert printable(text).isprintable()


@pytest.mark.parametrize("key", ["sk-ant-api03-abcdefgh-_1", "sk-ant-oat01-abcdefgh", "tfk_abcdefgh", "tfa_abcdefgh"])
def test_what_looks_like_a_secret_is_redacted(key: str) -> None:
    assert key[-8:] not in redacted(f"before {key} after")


def test_a_note_is_one_line_unless_there_are_several_details(capsys: pytest.CaptureFixture[str]) -> None:
    note("what\n  one detail")
    note("what\n  one\n  two\x1b")
    assert capsys.readouterr().err == "tokenferry: what one detail\ntokenferry: what\n  one\n  two\\x1b\n"
