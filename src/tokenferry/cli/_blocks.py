"""`usage blocks`: the five-hour windows of accounts, and the used share of each."""

import time
from collections.abc import Iterator
from datetime import datetime, tzinfo
from typing import Any, Final

from tokenferry.cli._output import note, say_json, say_lines
from tokenferry.cli._usage import aligned, iso, numbers, remark
from tokenferry.ledger import Period, Usage, UsageReport, UsageRow, total
from tokenferry.units import dollars, short, span
from tokenferry.views import WindowShare, open_windows

_WINDOW: Final = "5h"
_MINUTE_MS: Final = 60_000


def say_blocks(report: UsageReport | None, since: int, until: int, zone: tzinfo, *, as_json: bool) -> None:
    """Print the blocks between two times (milliseconds since 1970 UTC)."""
    now = time.time()
    rows = [] if report is None else [*_rows(report, since, until)]
    shares = {} if report is None else {one.account: one for one in open_windows(report, now) if one.window == _WINDOW}
    if as_json:
        say_json({"blocks": [_document(row, shares, int(now * 1000)) for row in rows]})
        return
    has_plan = any(row.usage.plan for row in rows)
    headings = ["start", "account", "tokens", "cost", *(["plan"] if has_plan else []), "used"]
    cells = []
    for row in rows:
        share = shares.get(row.period.account) if _is_active(row.period, now * 1000) else None
        start = f"{datetime.fromtimestamp(row.period.start / 1000, zone):%Y-%m-%d %H:%M}"
        money = [dollars(row.usage.cost), *([dollars(row.usage.plan)] if has_plan else [])]
        cells.append(
            [start, row.period.account, short(row.usage.tokens), *money, "" if share is None else f"{share.used:.0%}"]
        )
    say_lines(aligned(headings, cells, [float(row.usage.tokens) for row in rows], names=2))
    for row in rows:
        if _is_active(row.period, now * 1000):
            left = span(row.period.end / 1000 - now)
            rate = short(round(_rate(row, now * 1000)))
            note(f"{row.period.account}: this block ends in {left}; {rate} tokens a minute so far")
    remark(total(rows))


def _rows(report: UsageReport, since: int, until: int) -> Iterator[UsageRow]:
    """Each block with its account's usage."""
    blocks = report.blocks(since, until)
    found = {(row.period, row.group[0]): row for row in report.rows(blocks, ("account",))} if blocks else {}
    for block in blocks:
        row = found.get((block, block.account))
        yield UsageRow(block, (block.account,), Usage(), block.start, block.start) if row is None else row


def _is_active(block: Period, now_ms: float) -> bool:
    return block.start <= now_ms < block.end


def _rate(row: UsageRow, now_ms: float) -> float:
    """Tokens a minute since the block's first request."""
    return row.usage.tokens * _MINUTE_MS / max(now_ms - row.first, _MINUTE_MS)


def _document(row: UsageRow, shares: dict[str, WindowShare], now_ms: int) -> dict[str, Any]:
    """A block in ccusage's JSON format."""
    block, usage = row.period, row.usage
    is_active = _is_active(block, now_ms)
    document: dict[str, Any] = {
        "id": iso(block.start),
        "account": block.account,
        "startTime": iso(block.start),
        "endTime": iso(block.end),
        "actualEndTime": iso(row.last),
        "isActive": is_active,
        "isGap": False,
        "entries": usage.requests,
        "tokenCounts": {
            "inputTokens": usage.input,
            "outputTokens": usage.output,
            "cacheCreationInputTokens": usage.cache_creation,
            "cacheReadInputTokens": usage.cache_read,
        },
        "totalTokens": usage.tokens,
        "costUSD": usage.cost / 1e6,
        "planCost": numbers(usage)["planCost"],
        "models": sorted(usage.models),
    }
    if is_active:
        rate = _rate(row, now_ms)
        left = (block.end - now_ms) / _MINUTE_MS
        spent = (usage.cost + usage.plan) / 1e6
        grown = (usage.tokens + rate * left) / usage.tokens if usage.tokens else 1.0
        document["burnRate"] = {"tokensPerMinute": rate}
        document["projection"] = {
            "totalTokens": round(usage.tokens * grown),
            "totalCost": round(spent * grown, 6),
            "remainingMinutes": round(left),
        }
        if (share := shares.get(block.account)) is not None:
            document["used"] = share.used
    return document
