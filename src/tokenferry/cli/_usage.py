"""Usage reports: tables with bars for people, ccusage's names for programs."""

import csv
import io
import shutil
import sys
from collections.abc import Iterable, Iterator, Sequence
from datetime import UTC, datetime, tzinfo
from typing import Any, Final

from msgspec import Struct

from tokenferry.cli._output import note, printable, say_json, say_lines
from tokenferry.ledger import Dimension, Usage, UsageRow, total
from tokenferry.units import dollars, requests, short, spreadsheet_cell

_WIDTH: Final = 80
_MOST_BAR: Final = 24
_LEAST_BAR: Final = 4
_NAME: Final = 18
_GAP: Final = "  "
_NAMED: Final = {"daily": "date", "weekly": "week", "monthly": "month", "session": "sessionId"}


class Report(Struct, frozen=True):
    """A usage report: its parameters and its rows."""

    grain: str
    by: tuple[Dimension, ...]
    rows: Sequence[UsageRow]
    zone: tzinfo
    is_broken_down: bool = False

    @property
    def usage(self) -> Usage:
        return total(self.rows)


def say_report(report: Report, *, as_json: bool, as_csv: bool) -> None:
    """Print a report, with remarks about its numbers on stderr."""
    if as_json:
        name = "sessions" if report.grain == "session" else report.grain
        say_json({name: [*_documents(report)], "totals": numbers(report.usage)})
    elif as_csv:
        say_lines(_csv(report))
    else:
        say_lines(_lines(report))
        remark(report.usage)


def remark(usage: Usage) -> None:
    """Note which numbers are estimates or incomplete."""
    if usage.unpriced:
        note(
            f"{requests(usage.unpriced)} to models of unknown price, counted at $5 and $25 a million tokens "
            f"({dollars(usage.unpriced_cost)} in all); declare their prices with [[prices]] in config.toml"
        )
    if usage.estimated:
        note(f"{requests(usage.estimated)} cut off, with estimated output")
    if usage.uncounted:
        note(f"{requests(usage.uncounted)} without token counts, counted as 0")


def aligned(
    headings: Sequence[str], rows: Sequence[Sequence[str]], bars: Sequence[float], *, names: int
) -> Iterator[str]:
    """Aligned columns, the first `names` of them left-aligned; on a terminal with bars that compare the rows."""
    cells = [[printable(cell) for cell in row] for row in rows]
    widths = [max(len(line[at]) for line in [headings, *cells]) for at in range(len(headings))]

    def line(row: Sequence[str]) -> str:
        return _GAP.join(
            cell.ljust(width) if at < names else cell.rjust(width)
            for at, (cell, width) in enumerate(zip(row, widths, strict=True))
        )

    room = min(shutil.get_terminal_size((_WIDTH, 24)).columns - sum(widths) - len(_GAP) * len(widths), _MOST_BAR)
    greatest = max(bars, default=0.0)
    shows_bars = sys.stdout.isatty() and room >= _LEAST_BAR and greatest > 0
    yield line([heading.upper() for heading in headings]).rstrip()
    for row, share in zip(cells, bars, strict=True):
        yield (line(row) + (_GAP + bar(share / greatest, room) if shows_bars else "")).rstrip()


def bar(share: float, width: int) -> str:
    """A bar in eighths of a character."""
    eighths = round(min(max(share, 0.0), 1.0) * width * 8)
    return "█" * (eighths // 8) + " ▏▎▍▌▋▊▉"[eighths % 8].strip()


def _lines(report: Report) -> Iterator[str]:
    has_plan = report.usage.plan > 0
    heading = "last used" if report.grain == "session" else _NAMED[report.grain]
    headings = [
        heading,
        *report.by,
        "input",
        "output",
        "cache new",
        "cache read",
        "cost",
        *(["plan"] if has_plan else []),
    ]
    rows, bars = [], []

    def add(names: list[str], usage: Usage, weight: float) -> None:
        tokens = (usage.input, usage.output, usage.cache_creation, usage.cache_read)
        money = [dollars(usage.cost), *([dollars(usage.plan)] if has_plan else [])]
        rows.append([*names, *map(short, tokens), *money])
        bars.append(weight)

    is_broken_down = report.is_broken_down and "model" not in report.by
    is_paid = report.usage.cost + report.usage.plan > 0
    shown = ""
    for row in report.rows:
        label = _moment(row.last, report.zone) if report.grain == "session" else row.period.label
        names = [
            "" if label == shown and report.grain != "session" else label,
            *(_cut(name or "-") for name in row.group),
        ]
        shown = label
        weight = float(row.usage.cost + row.usage.plan if is_paid else row.usage.tokens)
        add(names, row.usage, weight)
        for model, usage in sorted(row.usage.models.items()) if is_broken_down else ():
            add([f"  {_cut(model or '-')}", *("" for _ in row.group)], usage, 0.0)
    if len(report.rows) > 1:
        add(["total", *("" for _ in report.by)], report.usage, 0.0)
    yield from aligned(headings, rows, bars, names=1 + len(report.by))


def _cut(name: str) -> str:
    return name if len(name) <= _NAME else f"{name[: _NAME - 1]}…"


def _moment(milliseconds: int, zone: tzinfo) -> str:
    return f"{datetime.fromtimestamp(milliseconds / 1000, zone):%Y-%m-%d %H:%M}"


def iso(milliseconds: int) -> str:
    """RFC 3339 in UTC, in ccusage's format."""
    return f"{datetime.fromtimestamp(milliseconds / 1000, UTC):%Y-%m-%dT%H:%M:%S.000Z}"


def _documents(report: Report) -> Iterator[dict[str, Any]]:
    """Each row in ccusage's JSON format."""
    for row in report.rows:
        names: dict[str, str] = dict(zip(report.by, row.group, strict=True))
        if report.grain == "session":
            key = {"sessionId": names.pop("session", ""), "lastActivity": iso(row.last)}
        else:
            key = {_NAMED[report.grain]: row.period.label}
        models = sorted(row.usage.models.items())
        yield {
            **key,
            **names,
            **numbers(row.usage),
            "modelsUsed": [model for model, _ in models],
            "modelBreakdowns": [{"modelName": model, **numbers(usage)} for model, usage in models],
        }


def numbers(usage: Usage) -> dict[str, int | float]:
    """Tokens, requests and money under ccusage's names."""
    return {
        "inputTokens": usage.input,
        "outputTokens": usage.output,
        "cacheCreationTokens": usage.cache_creation,
        "cacheReadTokens": usage.cache_read,
        "totalTokens": usage.tokens,
        "totalCost": usage.cost / 1e6,
        "planCost": usage.plan / 1e6,
        "cacheCreation5mTokens": usage.write_5m,
        "cacheCreation1hTokens": usage.write_1h,
        "thinkingTokens": usage.thinking,
        "webSearches": usage.searches,
        "requests": usage.requests,
        "errors": usage.errors,
        "estimatedRequests": usage.estimated,
        "uncountedRequests": usage.uncounted,
        "unpricedRequests": usage.unpriced,
        "unpricedCost": usage.unpriced_cost / 1e6,
    }


def _csv(report: Report) -> Iterator[str]:
    out = io.StringIO()
    writer = csv.writer(out, lineterminator="\n")
    for at, document in enumerate(_documents(report)):
        models = document.pop("modelBreakdowns")
        del document["modelsUsed"]
        if report.is_broken_down:
            plain = {name: value for name, value in document.items() if name not in models[0]}
            parts: Iterable[dict[str, Any]] = [{**plain, **model} for model in models]
        else:
            parts = [document]
        for number, part in enumerate(parts):
            if at == number == 0:
                writer.writerow(part)
            writer.writerow(spreadsheet_cell(value) for value in part.values())
    yield from out.getvalue().splitlines()
