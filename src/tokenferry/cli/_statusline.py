"""One line for Claude Code's status line, run after each message: so it imports next to nothing, and never fails.

The ledger's room takes ten times as long to import as this takes, which is why a few of its statements are here.
"""

import json
import sqlite3
import time

from tokenferry.manifest import data_home

TYPE_CHECKING = False  # the real one costs an import of typing
if TYPE_CHECKING:
    from collections.abc import Iterator

_SESSION = "SELECT id FROM names WHERE kind = 'session' AND value = ?"
_ACCOUNT = (
    "SELECT account, label FROM requests JOIN names ON names.id = account "
    "WHERE session = ? AND session > 0 ORDER BY at_ms DESC LIMIT 1"
)
_COST = (
    "SELECT billing = 'plan', sum(cost_micros) FROM requests WHERE session = ? AND session > 0 GROUP BY 1 ORDER BY 1"
)
_WINDOWS = (
    "SELECT label, used_ppm, reset_ms, max(at_ms) FROM windows JOIN names ON names.id = name "
    "WHERE account = ? GROUP BY name ORDER BY reset_ms"
)


def statusline(content: str, now: "float | None" = None) -> str:
    """The line for the session that Claude Code's JSON names; empty where nothing is known of it."""
    try:
        session = json.loads(content)["session_id"]
        connection = sqlite3.connect(f"file:{data_home()}/ledger.db?mode=rw", uri=True, timeout=0.05)
        try:
            connection.execute("PRAGMA query_only = 1")
            parts = [*_parts(connection, str(session), time.time() if now is None else now)]
        finally:
            connection.close()
    except (OSError, ValueError, LookupError, TypeError, RecursionError, sqlite3.Error):
        return ""
    return " | ".join(part for part in parts if part.isascii() and part.isprintable())


def _parts(connection: sqlite3.Connection, session: str, now: float) -> "Iterator[str]":
    (number,) = connection.execute(_SESSION, (session,)).fetchone() or (0,)
    account, label = connection.execute(_ACCOUNT, (number,)).fetchone() or (0, "")
    if not account:
        return
    yield label
    for window, used, reset, _ in connection.execute(_WINDOWS, (account,)):
        if reset / 1000 > now:
            yield f"{window} {used / 10_000:.0f}% ({_left(reset / 1000 - now)})"
    for is_plan, micros in connection.execute(_COST, (number,)):
        if micros:
            yield f"{'plan ' if is_plan else ''}${micros / 1e6:.2f}"


def _left(seconds: float) -> str:
    minutes = int(seconds) // 60
    if minutes < 60:  # noqa: PLR2004  # of an hour
        return f"{minutes}m"
    hours = minutes // 60
    return f"{hours}h{minutes % 60:02}m" if hours < 24 else f"{hours // 24}d{hours % 24}h"  # noqa: PLR2004  # of a day
