"""`status --watch` on a terminal. Import it only where needed: rich takes 60 ms."""

import contextlib
from collections.abc import Callable, Iterator
from typing import Final

from rich.console import Console, Group, RenderableType
from rich.live import Live
from rich.table import Table
from rich.text import Text

from tokenferry.cli._output import printable, redacted
from tokenferry.cli._table import STYLES
from tokenferry.cli._usage import bar
from tokenferry.readiness import TONES
from tokenferry.units import dollars, span
from tokenferry.views import NowView, Provenance

_WIDE: Final = 120
_BAR: Final = 20
_FULL, _NEARLY = 0.95, 0.75
_MARKS: Final[dict[Provenance, str]] = {"official": "", "estimate": "~", "unknown": "?"}


def print_view(view: NowView) -> None:
    """Print the view as text, for a pipe."""
    Console(highlight=False, width=_WIDE).print(rendered(view), "")


@contextlib.contextmanager
def screen() -> Iterator[Callable[[NowView], None]]:
    """The terminal's alternate screen; yields the function that shows a view there."""
    help_line = Text("q ends this; the same view with more in it: tokenferry dashboard", "dim")
    with Live(console=Console(highlight=False), screen=True, auto_refresh=False) as live:
        yield lambda view: live.update(Group(rendered(view), help_line), refresh=True)


def rendered(view: NowView) -> RenderableType:
    parts: list[RenderableType] = [_text(view.sentence, "bold" if view.is_whole else "bold yellow")]
    if view.fault:
        parts.append(_text(view.fault, "red"))
    if view.needs:
        parts.append("")
    for need in view.needs:
        parts += [_text(f"{need.subject}: {need.text}", "red"), _text(f"  {need.cure}", "cyan")]
    for table in (_figures(view), _windows(view), _accounts(view), _errors(view)):
        if table.row_count:
            parts += ["", table]
    return Group(*parts, "")


def _text(words: str, style: str = "") -> Text:
    return Text(printable(redacted(words)), style)


def _table(*headings: str) -> Table:
    """Only the last column wraps; names and numbers stay whole."""
    made = Table(box=None, padding=(0, 2, 0, 0), pad_edge=False, show_header=any(headings), header_style="dim")
    for at, heading in enumerate(headings):
        made.add_column(heading.upper(), no_wrap=at < len(headings) - 1, overflow="fold")
    return made


def _figures(view: NowView) -> Table:
    table = _table("", "", "")
    for one in view.figures:
        table.add_row(_text(one.name, "dim"), _text(f"{_MARKS[one.provenance]}{one.text}"), _text(one.why, "dim"))
    return table


def _windows(view: NowView) -> Table:
    table = _table("account", "window", "used", "", "resets")
    for one in view.windows:
        style = "red" if one.used >= _FULL else "yellow" if one.used >= _NEARLY else "green"
        dry = "" if one.dry_at is None else f", used up in ~{span(one.dry_at - view.at)} at this rate"
        used = _text(bar(one.used, _BAR).ljust(_BAR), style), _text(f"{one.used:.0%}")
        table.add_row(_text(one.account), _text(one.window), *used, _text(f"in {span(one.reset - view.at)}{dry}"))
    return table


def _accounts(view: NowView) -> Table:
    table = _table("account", "today", "state")
    for row in view.accounts:
        used = view.today.get(row.name)
        cost = "-" if used is None else f"~{dollars(used.cost + used.plan)}"
        tone = TONES.get(row.word)
        table.add_row(_text(row.name), _text(cost), _text(row.text, STYLES[tone] if tone else ""))
    return table


def _errors(view: NowView) -> Table:
    table = _table("failed", "account", "model", "status", "cause", "request")
    for one in view.errors:
        ago = span(max(view.at - one.at_ms / 1000, 0))
        names = (f"{ago} ago", one.account or "-", one.model or "-", str(one.status), one.error)
        table.add_row(*map(_text, names), _text(one.request_id, "dim"))
    return table
