import io
import sys

import pytest
from hypothesis import given
from hypothesis import strategies as st

from cli.harness import Terminal
from tokenferry.cli._output import moment, note, printable, redacted, span, table
from tokenferry.settings import Home


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


def test_a_table_is_aligned_text_where_there_is_no_terminal(capsys: pytest.CaptureFixture[str]) -> None:
    table(("name", "state"), [("a", "x y"), ("long-name", "[bold]z\n")])
    assert capsys.readouterr().out == "NAME       STATE\na          x y\nlong-name  [bold]z\\n\n"


def test_in_a_terminal_the_table_takes_no_markup_from_names(monkeypatch: pytest.MonkeyPatch) -> None:
    screen = io.StringIO()
    monkeypatch.setattr(screen, "isatty", lambda: True)
    monkeypatch.setattr(sys, "stdout", screen)
    monkeypatch.setenv("COLUMNS", "80")
    monkeypatch.setenv("TERM", "xterm")
    table(("name",), [("[red]a[/red]",)])
    assert "[red]a[/red]" in screen.getvalue()


def test_no_color_is_respected_in_a_terminal(home: Home) -> None:
    coloured = Terminal("key", "create", "x")
    assert coloured.end() == 0
    plain, rich = Terminal("key", "list", NO_COLOR="1"), Terminal("key", "list", FORCE_COLOR="1")
    assert (plain.end(), rich.end()) == (0, 0)
    assert "\x1b[3" not in plain.shown
    assert "NAME" in plain.shown
    assert "\x1b[" in rich.shown


def test_times_are_told_in_their_largest_unit_and_moments_in_utc() -> None:
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
