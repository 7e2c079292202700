"""Tables: wrapped to the terminal's width; in a pipe plain aligned columns, all of them."""

import sys
import textwrap
from collections.abc import Iterable, Sequence
from typing import Any, Final, Literal, Self, TypeAlias

from msgspec import Struct

from tokenferry.cli._output import printable, say_lines
from tokenferry.units import moment, relative

Tone: TypeAlias = Literal["bad", "warning", "good"]

STYLES: Final[dict[Tone, str]] = {"bad": "red", "warning": "yellow", "good": "green"}
_GAP: Final = 2
_WHOLE_WORDS: Final[dict[str, Any]] = {"break_long_words": False, "break_on_hyphens": False}
_LEAST_FOLDED: Final = 16
"""The least width of a column that folds; on a narrower terminal rows become cards."""


class Column(Struct, frozen=True):
    """A table's column: its heading, and how it adapts to a narrow terminal."""

    heading: str
    folds: bool = False
    """Whether cells may break between words. Other cells (names, ids) stay whole."""
    wide: bool = False
    """Whether the column is left out if not all columns fit and `--wide` is not given."""


class Cell(str):
    """A cell with a colour or a shorter text for terminals."""

    __slots__ = ("short", "tone")

    def __new__(cls, text: str, tone: Tone | None = None, short: str | None = None) -> Self:
        cell = super().__new__(cls, text)
        cell.tone = tone
        cell.short = short
        return cell

    tone: Tone | None
    short: str | None
    """The text on a terminal."""


def time_cell(seconds: int | None, now: float, tone: Tone | None = None) -> Cell:
    """A time in seconds since 1970 UTC: relative to `now` on a terminal, exact in a pipe, a dash for None."""
    return Cell(moment(seconds), tone, None if seconds is None else relative(seconds, now))


def table(columns: Sequence[Column], rows: Sequence[Sequence[str]], *, wide: bool = False) -> None:
    """Print rows. `wide` shows every column on a terminal, however narrow.

    In a pipe the columns are aligned text without colours, for `awk` and `cut`.
    """
    if sys.stdout.isatty():
        _on_terminal(columns, rows, wide=wide)
        return
    cells = [[printable(cell) for cell in row] for row in rows]
    lines = [[column.heading.upper() for column in columns], *cells]
    widths = [max(map(len, texts)) for texts in zip(*lines, strict=True)]
    say_lines("  ".join(cell.ljust(width) for cell, width in zip(line, widths, strict=True)).rstrip() for line in lines)


def labelled(pairs: Iterable[tuple[str, str]], margin: int) -> None:
    """Print labels with their values from column `margin` on; a terminal wraps the value beside its label."""
    for label, value in pairs:
        first, *more = folded(value, margin, margin)
        say_lines([f"{label:<{margin}}{first[margin:]}".rstrip(), *more])


def folded(text: str, margin: int, first_margin: int = 0) -> list[str]:
    """The text as lines that fit the terminal from column `margin` on; in a pipe one line."""
    text, first = printable(text), " " * first_margin
    if not sys.stdout.isatty():
        return [first + text]
    from shutil import get_terminal_size  # noqa: PLC0415  # 3 ms that a pipe saves

    width = max(get_terminal_size().columns, margin + _LEAST_FOLDED)
    lines = textwrap.wrap(text, width, initial_indent=first, subsequent_indent=" " * margin, **_WHOLE_WORDS)
    return lines or [first]


def _on_terminal(columns: Sequence[Column], rows: Sequence[Sequence[str]], *, wide: bool) -> None:
    from rich.cells import cell_len  # noqa: PLC0415  # only a terminal needs it
    from rich.console import Console  # noqa: PLC0415  # as above
    from rich.table import Table  # noqa: PLC0415  # as above
    from rich.text import Text  # noqa: PLC0415  # as above

    console = Console(highlight=False)
    cells = [[printable((isinstance(cell, Cell) and cell.short) or cell) for cell in row] for row in rows]
    tones = [[cell.tone if isinstance(cell, Cell) else None for cell in row] for row in rows]
    natural = [
        max(cell_len(text) for text in (column.heading, *texts)) for column, *texts in zip(columns, *cells, strict=True)
    ]
    least = [
        max(len(column.heading), min(width, _LEAST_FOLDED)) if column.folds else width
        for column, width in zip(columns, natural, strict=True)
    ]
    places = list(range(len(columns)))
    for place in reversed(range(len(columns))):
        if columns[place].wide and not wide and _sum(natural, places) > console.width:
            places.remove(place)
    if _sum(least, places) > console.width:
        if not wide:
            _cards(columns, cells, console.width)
            return
        console = Console(highlight=False, width=_sum(natural, places))
    grid = Table(box=None, pad_edge=False, padding=(0, _GAP, 0, 0))
    for place in places:
        grid.add_column(columns[place].heading.upper(), no_wrap=not columns[place].folds, overflow="fold")
    for row, toned in zip(cells, tones, strict=True):
        grid.add_row(*(Text(row[place], STYLES[tone] if (tone := toned[place]) else "") for place in places))
    console.print(grid)


def _sum(widths: Sequence[int], places: Sequence[int]) -> int:
    return sum(widths[place] + _GAP for place in places) - _GAP


def _cards(columns: Sequence[Column], cells: list[list[str]], width: int) -> None:
    """Each row as lines of label and value, for a terminal too narrow for the columns that stay whole."""
    margin = max(len(column.heading) for column in columns) + _GAP
    for number, row in enumerate(cells):
        if number:
            say_lines([""])
        for column, cell in zip(columns, row, strict=True):
            folded = textwrap.wrap(cell, max(width - margin, 1), **_WHOLE_WORDS)
            label = column.heading.upper().ljust(margin)
            say_lines((label if not at else " " * margin) + line for at, line in enumerate(folded or [""]))
