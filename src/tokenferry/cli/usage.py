import contextlib
import time
from collections.abc import Iterator
from datetime import UTC, date, datetime, timedelta, tzinfo
from pathlib import Path
from typing import Annotated, Final, TypeAlias

import typer

from tokenferry.audit import note_change
from tokenferry.budgets import midnight
from tokenferry.cli._blocks import say_blocks
from tokenferry.cli._home import find
from tokenferry.cli._output import note, say
from tokenferry.cli._typer import JSON, examples, new_app
from tokenferry.cli._usage import Report, say_report
from tokenferry.databases import has_ledger, open_ledger
from tokenferry.errors import TokenferryError, UsageError
from tokenferry.ledger import DIMENSIONS, Dimension, Period, UsageReport, periods
from tokenferry.moments import zone_of
from tokenferry.prices import PriceTable
from tokenferry.readiness import budgets_now
from tokenferry.settings import Home
from tokenferry.units import dollars

app = new_app(
    "Show usage and cost, by key, account, model or session.",
    "tokenferry usage daily",
    "tokenferry usage monthly --by key",
    "tokenferry usage blocks",
)

_EARLIEST: Final = 1970
_LATEST: Final = 2099
_DAYS: Final[dict[str, int]] = {"daily": 30, "weekly": 7 * 12, "monthly": 365, "session": 7, "blocks": 3}
"""Days shown by default."""
_MOST_SESSIONS: Final = 40
_MOST_BUDGETS: Final = 12

By: TypeAlias = Annotated[
    list[str] | None,
    typer.Option("--by", metavar="account|key|model|provider|session", help="Group by this; may be given twice."),
]
Since: TypeAlias = Annotated[
    str | None, typer.Option("--since", metavar="DATE", help="The first day: 2026-11-01, 20261101, or 7d.")
]
Until: TypeAlias = Annotated[
    str | None, typer.Option("--until", metavar="DATE", help="The last day; by default today.")
]
Zone: TypeAlias = Annotated[
    str | None,
    typer.Option(
        "--timezone", metavar="ZONE", help="The time zone of days, such as Europe/Berlin; by default this machine's."
    ),
]
Breakdown: TypeAlias = Annotated[bool, typer.Option("--breakdown", help="Show a line per model.")]
CSV: TypeAlias = Annotated[bool, typer.Option("--csv", help="Print comma-separated values.")]


def _add_command(grain: str, sentence: str, *lines: str) -> None:
    """Add a command that reports usage by day, week, month or session."""

    def show(
        *,
        by: By = None,
        since: Since = None,
        until: Until = None,
        timezone: Zone = None,
        breakdown: Breakdown = False,
        as_json: JSON = False,
        as_csv: CSV = False,
    ) -> None:
        if as_json and as_csv:
            raise UsageError("--json and --csv contradict each other; give one of them")
        zone, groups = zone_of(timezone), _groups(by)
        first, last = days_of(grain, since, until, zone)
        if grain == "session":
            groups = ("session", *(one for one in groups if one != "session"))
            asked = [Period("", midnight(first, zone), midnight(last + timedelta(days=1), zone))]
        else:
            asked = periods(grain, first, last, zone)  # type: ignore[arg-type]  # the others are its values
        with _report() as report:
            rows = [] if report is None else report.rows(asked, groups)
        if grain == "session":
            rows = sorted((row for row in rows if row.group[0]), key=lambda row: row.last)
        shown = rows if grain != "session" or as_json or as_csv else rows[-_MOST_SESSIONS:]
        say_report(Report(grain, groups, shown, zone, breakdown), as_json=as_json, as_csv=as_csv)
        if not (as_json or as_csv):
            _note_budgets()
        if len(shown) < len(rows):
            note(f"{len(rows) - len(shown)} older sessions are left out; see all with --json or --csv")

    app.command(grain, help=sentence, epilog=examples(*lines))(show)


_add_command(
    "daily",
    "Show usage by day (the last 30 days).",
    "tokenferry usage daily --since 7d --by account",
    "tokenferry usage daily --json",
)
_add_command(
    "weekly",
    "Show usage by week, from Monday (the last 12 weeks).",
    "tokenferry usage weekly --by model",
)
_add_command(
    "monthly",
    "Show usage by month (the last year).",
    "tokenferry usage monthly --by key --csv > usage.csv",
)
_add_command(
    "session",
    "Show usage by session (the last 7 days).",
    "tokenferry usage session --since 1d --json",
)


@app.command("blocks", epilog=examples("tokenferry usage blocks --since 1d", "tokenferry usage blocks --json"))
def blocks(
    *,
    since: Since = None,
    until: Until = None,
    timezone: Zone = None,
    as_json: JSON = False,
) -> None:
    """Show the five-hour windows of each account (the last 3 days).

    They are the vendor's own windows if its responses report them; else a window begins with the hour of its first
    request.
    """
    zone = zone_of(timezone)
    first, last = days_of("blocks", since, until, zone)
    with _report() as report:
        say_blocks(report, midnight(first, zone), midnight(last + timedelta(days=1), zone), zone, as_json=as_json)


@app.command("reprice", epilog=examples("tokenferry usage reprice --since 2026-11-01"))
def reprice(
    *,
    since: Annotated[str, typer.Option("--since", metavar="DATE", help="The first day, in UTC.", show_default=False)],
) -> None:
    """Recompute the cost of the requests since a day.

    Each gets the price of its time, from the present list and [[prices]]. The command prints the change. No other
    command changes a stored cost.
    """
    home, config = find()
    _check_there(home)
    day = _day(since, datetime.now(UTC).date())
    urls = {name: provider.base_url for name, provider in config.providers.items()}
    with open_ledger(home) as ledger:
        changed, before, after = ledger.reprice(PriceTable(urls, config.prices), since=midnight(day, UTC) / 1000)
    note_change(home, "usage.reprice", str(day), requests=changed, before_micros=before, after_micros=after)
    say(
        f"{changed:,} requests cost something else now: all since {day} cost {dollars(after)}, {dollars(before)} before"
    )


@app.command("erase", epilog=examples("tokenferry usage erase --key ci", "tokenferry usage erase --session 0f7c-…"))
def erase(
    *,
    key: Annotated[str | None, typer.Option("--key", metavar="NAME", help="A client key's name or id.")] = None,
    session_: Annotated[str | None, typer.Option("--session", metavar="ID", help="A session's id.")] = None,
) -> None:
    """Erase the requests of a client key or session, also from all sums."""
    if (key is None) == (session_ is None):
        raise UsageError("give either --key NAME or --session ID")
    home, _ = find()
    _check_there(home)
    with open_ledger(home) as ledger:
        erased = ledger.erase(key=key, session=session_)
    note_change(home, "usage.erase", key or "a session", requests=erased)
    say(f"erased {erased:,} requests")


@app.command("backup", epilog=examples("tokenferry usage backup ledger-copy.db"))
def backup(
    file: Annotated[Path, typer.Argument(metavar="FILE", help="A new file.", show_default=False)],
) -> None:
    """Copy the ledger to a file while gateways go on writing."""
    home, _ = find()
    _check_there(home)
    with open_ledger(home) as ledger:
        ledger.backup(file)
    say(f"copied the ledger to {file}")


@app.command("restore", epilog=examples("tokenferry usage restore ledger-copy.db"))
def restore(
    file: Annotated[Path, typer.Argument(metavar="FILE", help="A copy that backup made.", show_default=False)],
) -> None:
    """Replace the ledger with a copy. Later entries are lost."""
    home, _ = find()
    if not file.is_file():
        raise UsageError(f"{file} is not a file; name one that tokenferry usage backup made")
    with open_ledger(home) as ledger:
        ledger.restore(file)
    note_change(home, "usage.restore", file.name)
    say(f"restored the ledger from {file}")


@contextlib.contextmanager
def _report() -> Iterator[UsageReport | None]:
    """The ledger's report; None, and a note, if there is no ledger yet."""
    home = Home.from_environment()
    if not has_ledger(home):
        note("no usage is recorded yet; tokenferry serve and tokenferry run record it")
        yield None
        return
    with open_ledger(home) as ledger:
        yield UsageReport(ledger)


def _note_budgets() -> None:
    """Note the used share of each budget. `doctor` reports what can't be read."""
    with contextlib.suppress(TokenferryError):
        home, config = find()
        for one in budgets_now(home, config)[:_MOST_BUDGETS]:
            note(f"budget of {one.sentence(time.time())}")


def _check_there(home: Home) -> None:
    if not has_ledger(home):
        raise UsageError(f"{home.ledger} does not exist: no usage is recorded yet")


def _groups(by: list[str] | None) -> tuple[Dimension, ...]:
    found: list[Dimension] = []
    for name in (one for text in by or () for one in text.split(",")):
        known: Dimension | None = next((one for one in DIMENSIONS if one == name), None)
        if known is None:
            raise UsageError(f"--by {name[:40]!r} is unknown; give one of {', '.join(DIMENSIONS)}")
        found.append(known)
    return tuple(dict.fromkeys(found))


def days_of(grain: str, since: str | None, until: str | None, zone: tzinfo) -> tuple[date, date]:
    """The first and the last day of the report. Raises `UsageError`."""
    today = datetime.fromtimestamp(time.time(), zone).date()
    last = today if until is None else _day(until, today)
    first = last - timedelta(days=_DAYS[grain] - 1) if since is None else _day(since, today)
    if first > last:
        raise UsageError(f"--since {first} is after --until {last}; swap them")
    return first, last


def _day(text: str, today: date) -> date:
    with contextlib.suppress(ValueError, OverflowError):
        if text[-1:] == "d" and text[:-1].isdecimal():
            found = today - timedelta(days=max(int(text[:-1]), 1) - 1)
        else:
            found = date.fromisoformat(text)
        if _EARLIEST <= found.year <= _LATEST:
            return found
    raise UsageError(
        f"{text[:40]!r} is not a day from {_EARLIEST} to {_LATEST}; write it as 2026-11-01, 20261101, or 7d for the "
        "last seven days"
    )
