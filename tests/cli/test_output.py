import pytest
from hypothesis import given
from hypothesis import strategies as st

from tokenferry.cli._output import moment, note, printable, redacted, relative, span


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


def test_spans_show_their_largest_unit_and_moments_are_in_utc() -> None:
    assert [span(seconds) for seconds in (0, 59, 119, 120, 7200, 200_000)] == [
        "0 s",
        "59 s",
        "119 s",
        "2 min",
        "2 h",
        "2 d",
    ]
    assert moment(0) == "1970-01-01T00:00:00Z"
    assert moment(None) == "-"
    assert (relative(7200, 0), relative(0, 7200)) == ("in 2 h", "2 h ago")
