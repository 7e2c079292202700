"""`tokenferry help`: what an installed user reads without the pages."""

import io
import re
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any, Final

import pytest

from cli.harness import Outcome, Terminal, begin
from tokenferry import errors
from tokenferry.cli._run import run
from tokenferry.cli.help import EXIT_CODES
from tokenferry.settings import Home

ROOT: Final = Path(__file__).resolve().parents[2]
Inside = Callable[..., Outcome]


@pytest.mark.parametrize("group", ["account", "claude-code", "explain", "store"])
def test_a_groups_help_cuts_no_sentence(inside: Inside, group: str) -> None:
    assert "..." not in inside(group, "--help").out.partition("Commands:")[2]


def test_the_help_of_a_command_is_that_of_the_command(inside: Inside) -> None:
    assert inside("help", "account", "add") == inside("account", "add", "--help")
    assert inside("help").out.startswith(inside("--help").out)
    assert "did you mean 'list'? See: tokenferry account --help" in inside("help", "account", "lost").one_line()


def test_a_locale_without_a_character_gets_its_escape(monkeypatch: pytest.MonkeyPatch) -> None:
    written = io.BytesIO()
    monkeypatch.setattr(sys, "stdout", io.TextIOWrapper(written, encoding="ascii"))
    assert run(["help", "pool"]) == 0
    assert b"\\u2014" in written.getvalue() or b"\\u2026" in written.getvalue()


def test_each_topic_is_listed_with_its_heading_and_has_its_page(inside: Inside) -> None:
    listed = inside("help").out.partition("\nTopics:\n")[2]
    pages = sorted((ROOT / "docs").glob("*.md"))
    assert [line.split()[0] for line in listed.splitlines()] == [page.stem for page in pages]
    for page in pages:
        heading = page.read_text(encoding="utf-8").partition("\n")[0]
        assert heading.lstrip("# ") in listed
        out = inside("help", page.stem).out
        assert f"{heading}\n" in out
        assert "\x1b" not in out
        assert not re.search(r"\]\((?!http)", out), "a link that leads nowhere outside the tree"


def test_a_topic_that_is_a_command_has_options_and_page(inside: Inside) -> None:
    for topic, command in (("login", "login"), ("key", "key"), ("providers", "provider")):
        out = inside("help", topic).out
        assert out.startswith(inside(command, "--help").out)
        assert "\n# " in out


def test_code_on_a_page_is_neither_folded_nor_changed(inside: Inside, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("COLUMNS", "40")
    page = (ROOT / "docs" / "pool.md").read_text(encoding="utf-8")
    longest = max((line for line in page.splitlines() if line.startswith("    tokenferry ")), key=len)
    lines = inside("help", "pool").out.splitlines()
    assert longest.rstrip() in lines
    assert max(len(line) for line in lines if not line.startswith("    ")) <= 40


def test_a_table_on_a_page_keeps_its_words_whole_and_shows_no_empty_heading(
    inside: Inside, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("COLUMNS", "80")
    lines = inside("help", "sandbox").out.splitlines()
    assert "/.well-known/oauth-authorization-server" in "".join(map(str.strip, lines))
    tables = [at for at, line in enumerate(lines) if line.startswith(" redirects ")]
    assert [lines[at - 1 : at] for at in tables] == [[""]]


def test_a_terminal_shows_a_page_at_once_in_its_width(home: Home) -> None:
    terminal = Terminal("help", "pool", COLUMNS="60")
    assert terminal.end() == 0
    assert "\x1b[" in terminal.shown
    plain = re.sub(r"\x1b\[[0-9;]*m", "", terminal.shown).splitlines()
    assert all(len(line) <= 60 for line in plain if not line.startswith("    "))


def test_a_reader_that_leaves_early_ends_it_without_a_word() -> None:
    process = begin("help", "pool")
    assert process.stdout is not None
    process.stdout.close()
    assert process.stderr is not None
    assert process.stderr.read() == ""
    assert process.wait(60) == 1


def test_an_unknown_topic_gets_the_nearest(inside: Inside) -> None:
    assert "did you mean 'account'?" in inside("help", "acount").one_line()
    assert "did you mean 'pool'?" in inside("help", "poool").one_line()
    assert inside("help", "xyzzy").code == 4
    assert inside("help", "xyzzy").one_line() == "there is no topic 'xyzzy'; all topics: tokenferry help"


def test_the_reference_has_every_exit_code_variable_and_place(inside: Inside) -> None:
    kinds: list[Any] = [kind for name in errors.__all__ if isinstance(kind := getattr(errors, name), type)]
    codes = {str(kind.exit_code) for kind in kinds}
    assert codes == {*EXIT_CODES} - {"0", "128+n"}
    out = inside("help", "reference").out
    for word in ("Exit codes", "TOKENFERRY_HOME", "TOKENFERRY_ACCOUNT", "config.toml", "state.db", "  7  "):
        assert word in out
