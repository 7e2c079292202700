"""The pages of docs/, which every installation includes: topics, and a page for a terminal or a pipe."""

import re
import sys
from importlib.resources import files
from typing import Any, ClassVar, Final

from rich.console import Console
from rich.markdown import CodeBlock, Heading, Markdown, TableElement
from rich.text import Text
from rich.theme import Theme

from tokenferry.cli._output import printable, say_lines

_PAGES: Final = files("tokenferry.cli") / "pages"
_PICTURE: Final = re.compile(r"!\[[^\]]*\]\([^)]*\)\s*")
_LINK: Final = re.compile(r"\[(?P<text>[^\]]+)\]\((?!https?:|mailto:)(?P<page>[\w-]*)[^)]*\)")
_STYLES: Final = Theme({"markdown.code": "cyan", "markdown.h2": "bold", "markdown.h3": "bold"})
_WIDEST: Final = 100
"""Longer lines are hard to read."""


def topics() -> dict[str, str]:
    """Each page's topic with its heading, in alphabetical order."""
    names = sorted(page.name for page in _PAGES.iterdir())
    return {name.removesuffix(".md"): _text(name).partition("\n")[0].lstrip("# ") for name in names}


def show_page(topic: str) -> None:
    """Print the page of a topic, wrapped to the terminal's width; in a pipe without colours."""
    console = Console(highlight=False, theme=_STYLES)
    console.width = min(console.width, _WIDEST)
    page = _Page(_with_topics(_text(f"{topic}.md")), hyperlinks=False)
    if sys.stdout.isatty():
        console.print(page, crop=False)
        return
    with console.capture() as captured:
        console.print(page, crop=False)
    say_lines(line.rstrip() for line in captured.get().splitlines())


def _text(name: str) -> str:
    return (_PAGES / name).read_text(encoding="utf-8")


def _with_topics(text: str) -> str:
    """The text with links to pages replaced by their topics, and without pictures."""
    return _LINK.sub(_topic, _PICTURE.sub("", text))


def _topic(link: re.Match[str]) -> str:
    text, page = link["text"], link["page"]
    if not page or not (_PAGES / f"{page}.md").is_file():
        return text
    command = f"`tokenferry help {page}`"
    return command if text == f"{page}.md" else f"{text} ({command})"


class _Heading(Heading):
    """A left-aligned heading; in a pipe, which has no styles, with its `#` signs."""

    def __rich_console__(self, console: Any, options: Any) -> Any:
        yield self.text if console.is_terminal else Text(f"{'#' * int(self.tag[1:])} {self.text}")


class _Code(CodeBlock):
    """Code, indented, neither wrapped nor coloured, so that it can be copied."""

    def __rich_console__(self, console: Any, options: Any) -> Any:
        for line in str(self.text).rstrip().splitlines():
            yield Text(f"    {printable(line)}", "cyan", no_wrap=True, overflow="ignore")


class _Table(TableElement):
    """A table without an empty heading. Long words wrap; Rich would cut off the end of an address."""

    def __rich_console__(self, console: Any, options: Any) -> Any:
        table: Any
        for table in super().__rich_console__(console, options):
            table.show_header = any(str(column.header) for column in table.columns)
            for column in table.columns:
                column.overflow = "fold"
            yield table


class _Page(Markdown):
    elements: ClassVar[dict[str, Any]] = {
        **Markdown.elements,
        "heading_open": _Heading,
        "table_open": _Table,
        "fence": _Code,
        "code_block": _Code,
    }
