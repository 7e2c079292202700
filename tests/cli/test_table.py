import io
import re
import sys
from collections.abc import Callable, Sequence

import pytest
from hypothesis import given
from hypothesis import strategies as st
from rich.cells import cell_len

from cli.documents import KEY
from cli.harness import Outcome, Terminal, tokenferry
from tokenferry.cli._table import Cell, Column, labelled, table, time_cell
from tokenferry.settings import Home

COLUMNS = (Column("name"), Column("kind", wide=True), Column("state", folds=True))


def show(rows: Sequence[Sequence[str]], width: int, *, wide: bool = False, columns: Sequence[Column] = COLUMNS) -> str:
    """What a terminal of a width shows of a table."""
    screen = io.StringIO()
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(screen, "isatty", lambda: True)
        patch.setattr(sys, "stdout", screen)
        patch.setenv("COLUMNS", str(width))
        patch.setenv("TERM", "xterm")
        patch.setenv("NO_COLOR", "1")
        table(columns, rows, wide=wide)
    return re.sub(r"\x1b\[[0-9;]*m", "", screen.getvalue())


def test_in_a_pipe_a_table_is_aligned_text_with_every_column(capsys: pytest.CaptureFixture[str]) -> None:
    table(COLUMNS, [("a", "k", "x y"), ("long-name", "k", "[bold]z\n")])
    assert capsys.readouterr().out == ("NAME       KIND  STATE\na          k     x y\nlong-name  k     [bold]z\\n\n")


def test_a_pipe_gets_the_whole_text_of_a_cell_and_a_terminal_the_short_one(capsys: pytest.CaptureFixture[str]) -> None:
    rows = [("a", "k", time_cell(7200, 0))]
    table(COLUMNS, rows)
    assert "1970-01-01T02:00:00Z" in capsys.readouterr().out
    assert "in 2 h" in show(rows, 80)


def test_a_terminal_takes_no_markup_from_names() -> None:
    assert "[red]a[/red]" in show([("[red]a[/red]", "k", "s")], 80)


def test_a_narrow_terminal_leaves_out_wide_columns_until_they_are_asked_for() -> None:
    rows = [("a" * 30, "k" * 30, "word " * 10)]
    assert "KIND" not in show(rows, 80)
    assert "KIND" in show(rows, 200)
    assert "KIND" in show(rows, 80, wide=True)


def test_no_more_columns_are_left_out_than_must_be() -> None:
    columns = (Column("id"), Column("role", wide=True), Column("state"), Column("labels", wide=True))
    shown = show([("i" * 40, "client", "live", "l" * 40)], 80, columns=columns)
    assert "ROLE" in shown
    assert "LABELS" not in shown


def test_a_value_beside_its_label_folds_at_words_on_a_terminal_alone(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    pairs = [("state", "word " * 9 + "end"), ("name", "a  b")]
    monkeypatch.setenv("COLUMNS", "40")
    labelled(pairs, 8)
    assert capsys.readouterr().out == f"state   {pairs[0][1]}\nname    a  b\n"
    monkeypatch.setattr(sys.stdout, "isatty", lambda: True)
    labelled(pairs, 8)
    shown = capsys.readouterr().out.splitlines()
    assert shown[0] == "state   word word word word word word"
    assert shown[1] == "        word word word end"


WORDS = st.text("abcdefghij-", min_size=1, max_size=14)


@given(st.lists(st.tuples(WORDS, WORDS, st.lists(WORDS, max_size=20).map(" ".join)), min_size=1), st.integers(20, 120))
def test_every_line_fits_the_terminal_and_every_word_stays_whole(rows: list[tuple[str, str, str]], width: int) -> None:
    text = show(rows, width)
    lines, shown = text.splitlines(), set(text.split())
    assert max(map(cell_len, lines)) <= max(width, 22)  # the widest name beside the labels of cards
    assert all(name in shown and set(state.split()) <= shown for name, _, state in rows)


def test_rows_become_cards_where_names_do_not_fit_beside_each_other() -> None:
    assert show([("n" * 30, "k", "needs login again")], 36).splitlines() == [
        f"NAME   {'n' * 30}",
        "KIND   k",
        "STATE  needs login again",
    ]


def test_a_state_has_a_colour_in_a_terminal_unless_no_color_is_set(home: Home) -> None:
    assert Terminal("key", "create", "x").end() == 0
    plain, rich = Terminal("key", "list", NO_COLOR="1"), Terminal("key", "list", FORCE_COLOR="1")
    assert (plain.end(), rich.end()) == (0, 0)
    assert "\x1b[3" not in plain.shown
    assert "NAME" in plain.shown
    assert "\x1b[" in rich.shown


def test_a_toned_cell_is_coloured(monkeypatch: pytest.MonkeyPatch) -> None:
    screen = io.StringIO()
    monkeypatch.setattr(screen, "isatty", lambda: True)
    monkeypatch.setattr(sys, "stdout", screen)
    monkeypatch.setenv("FORCE_COLOR", "1")
    monkeypatch.setenv("TERM", "xterm")
    monkeypatch.delenv("NO_COLOR", raising=False)
    table((Column("state"),), [(Cell("dead", "bad"),)])
    assert "\x1b[31mdead" in screen.getvalue()


@pytest.mark.usefixtures("free_port")
@pytest.mark.parametrize("command", ["key show anna", "doctor", "explain route --model claude-x"])
def test_a_command_folds_what_it_says_and_never_a_command_to_copy(
    home: Home, inside: Callable[..., Outcome], monkeypatch: pytest.MonkeyPatch, command: str
) -> None:
    assert tokenferry("account", "add", "work", stdin=KEY).code == 0
    assert inside("key", "create", "anna", *(f"--model=model-{number}" for number in range(9))).code == 0
    if command == "doctor":
        home.accounts.chmod(0o777)
    plain = inside(*command.split()).out
    monkeypatch.setenv("COLUMNS", "40")
    monkeypatch.setattr(sys.stdout, "isatty", lambda: True)
    shown = inside(*command.split()).out
    assert shown.split() == plain.split()
    assert shown != plain
    longest = [line for line in shown.splitlines() if len(line) > 40]
    assert all(line.startswith("  cure: ") or " " not in line.strip() for line in longest)
