"""Claude Code's status line. It runs after every message, so it imports little and never fails.

Importing the ledger would take ten times as long as this module does, so it repeats a few of the ledger's statements.
"""

import json
import os
import sqlite3
import time

from tokenferry.manifest import config_file, data_home

TYPE_CHECKING = False  # the real one needs an import of typing
if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Sequence
    from typing import Any

_MOST_CONFIG = 1024 * 1024

_SESSION = "SELECT id FROM names WHERE kind = 'session' AND value = ?"
_ACCOUNT = (
    "SELECT account, label FROM requests JOIN names ON names.id = account "
    "WHERE session = ? AND session > 0 ORDER BY at_ms DESC LIMIT 1"
)
_COST = (
    "SELECT billing = 'plan', sum(cost_micros) FROM requests WHERE session = ? AND session > 0 GROUP BY 1 ORDER BY 1"
)
_WINDOWS = (
    "SELECT label, used_ppm, reset_ms FROM windows JOIN names ON names.id = name WHERE account = ? AND at_ms = "
    "(SELECT max(at_ms) FROM windows AS seen WHERE seen.account = windows.account AND seen.name = windows.name) "
    "ORDER BY reset_ms"
)


def statusline(content: str, now: "float | None" = None) -> str:
    """The line for the session in Claude Code's JSON; empty for an unknown session."""
    try:
        session = str(json.loads(content)["session_id"])
        now = time.time() if now is None else now
        parts = _shared(session, now) if _may_name_database() else None
        if parts is None:
            parts = _own(session, now)
    except (OSError, ValueError, LookupError, TypeError, RecursionError, sqlite3.Error):
        return ""
    return " | ".join(part for part in parts if part.isascii() and part.isprintable())


def _may_name_database() -> bool:
    """Whether config.toml has a section `[store]`; only then is it parsed."""
    try:
        descriptor = os.open(config_file(), os.O_RDONLY | os.O_NONBLOCK | os.O_CLOEXEC)
    except OSError:
        return False
    try:
        lines = os.read(descriptor, _MOST_CONFIG).splitlines()
    except OSError:
        return False
    finally:
        os.close(descriptor)
    return any(line.lstrip(b" \t['\"").startswith(b"store") for line in lines)


def _own(session: str, now: float) -> "list[str]":
    connection = sqlite3.connect(f"file:{data_home()}/ledger.db?mode=rw", uri=True, timeout=0.05)
    try:
        connection.execute("PRAGMA query_only = 1")
        return [*_parts(lambda query, values: connection.execute(query, values).fetchall(), session, now)]
    finally:
        connection.close()


def _shared(session: str, now: float) -> "list[str] | None":
    """The parts from the database that hosts share; None without one."""
    from tokenferry.databases import open_ledger, store_settings  # noqa: PLC0415  # slow, and few homes have a database
    from tokenferry.errors import TokenferryError  # noqa: PLC0415  # as above
    from tokenferry.settings import Home  # noqa: PLC0415  # as above

    try:
        home = Home.from_environment()
        settings = store_settings(home)
        if not settings.url:
            return None
        with open_ledger(home, settings) as ledger:
            return [*_parts(ledger.rows, session, now)]
    except TokenferryError:
        return ["usage unknown; see: tokenferry store status"]


def _parts(rows: "Callable[[str, tuple[Any, ...]], Sequence[Any]]", session: str, now: float) -> "Iterator[str]":
    for (number,) in rows(_SESSION, (session,)):
        yield from _parts_of(rows, number, now)


def _parts_of(rows: "Callable[[str, tuple[Any, ...]], Sequence[Any]]", number: int, now: float) -> "Iterator[str]":
    account, label = next(iter(rows(_ACCOUNT, (number,))), (0, ""))
    if not account:
        return
    yield label
    for window, used, reset in rows(_WINDOWS, (account,)):
        if reset / 1000 > now:
            yield f"{window} {used / 10_000:.0f}% ({_left(reset / 1000 - now)})"
    for is_plan, micros in rows(_COST, (number,)):
        if micros:
            yield f"{'plan ' if is_plan else ''}${micros / 1e6:.2f}"


def _left(seconds: float) -> str:
    minutes = int(seconds) // 60
    if minutes < 60:  # noqa: PLR2004  # of an hour
        return f"{minutes}m"
    hours = minutes // 60
    return f"{hours}h{minutes % 60:02}m" if hours < 24 else f"{hours // 24}d{hours % 24}h"  # noqa: PLR2004  # of a day
