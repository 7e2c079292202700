"""The commands that the pages show are commands, with the options that they have."""

import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import typer

from tokenferry.cli._app import COMMANDS, app

ROOT = Path(__file__).resolve().parents[2]
PAGES = [ROOT / "README.md", *sorted((ROOT / "docs").glob("*.md"))]
CODE = re.compile(r"^```(?:sh)?\n(.*?)^```$|^```\w+\n.*?^```$|((?:^ {4}[^\n]*\n)+)|`([^`]+)`", re.MULTILINE | re.DOTALL)
COMMAND = re.compile(r"(?:^|[|&(;]) *tokenferry +([a-z][^\n|&;)#]*)", re.MULTILINE)


def commands(page: Path) -> Iterator[list[str]]:
    text = page.read_text(encoding="utf-8").replace("\\\n", " ")
    for found in CODE.finditer(text):
        fenced, indented, inline = found.groups()
        code = fenced or re.sub(r"^ {4}", "", indented or "", flags=re.MULTILINE) or (inline or "").replace("\n", " ")
        for command in COMMAND.finditer(re.sub(r" #.*", "", code)):
            yield re.sub(r"[\[\]\",.]", " ", command[1]).split("  ")[0].split()


def fault(words: list[str]) -> str | None:
    """What is wrong with a command; options behind `--` are another program's."""
    command: Any = typer.main.get_command(app)
    context = command.make_context("tokenferry", [], resilient_parsing=True)
    words = words[: words.index("--")] if "--" in words else words
    rest = iter(words)
    for word in rest:
        if not hasattr(command, "get_command") or word.startswith("-"):
            break
        if (inner := command.get_command(context, word)) is None:
            return f"there is no command {word}"
        command = inner
    known = {option for parameter in command.params for option in (*parameter.opts, *parameter.secondary_opts)}
    options = {word.partition("=")[0] for word in words if word.startswith("-") and len(word) > 1}
    unknown = options - known - {"--help", "-h"}
    return f"there is no option {', '.join(sorted(unknown))}" if unknown else None


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.stem)
def test_every_command_on_a_page_is_one_with_its_options(page: Path) -> None:
    assert {" ".join(words): found for words in commands(page) if (found := fault(words))} == {}


def test_what_is_no_command_would_be_noticed() -> None:
    assert fault(["account", "lost"]) == "there is no command lost"
    assert fault(["token", "--minimum", "3"]) == "there is no option --minimum"
    assert fault(["run", "--", "x", "--y"]) is None
    assert sum(len(list(commands(page))) for page in PAGES) > 150


def test_the_page_of_commands_has_a_section_for_each() -> None:
    parts = re.split(r"(?m)^## ", (ROOT / "docs" / "commands.md").read_text(encoding="utf-8"))
    tree: Any = typer.main.get_command(app)
    for name in COMMANDS:
        own = "".join(part for part in parts if name in re.split("[ ,]+", part.partition("\n")[0]))
        assert own, name
        inner = getattr(tree.get_command(None, name), "commands", {}) if name != "setup" else {}  # connect.md has tools
        assert [one for one in inner if not re.search(rf"\b{one}\b", own)] == [], name


def test_no_secret_is_put_into_a_command_line() -> None:
    """What other programs print goes to another one on stdin: `$(…)` in an argument could be read by other users."""
    pages = [ROOT / "README.md", *sorted((ROOT / "docs").glob("*.md"))]
    for page in pages:
        for line in page.read_text(encoding="utf-8").splitlines():
            assert not re.search(r"curl .*(\$\(tokenferry|\$[A-Z_]*(KEY|TOKEN|ADMIN))", line), f"{page.name}: {line}"
