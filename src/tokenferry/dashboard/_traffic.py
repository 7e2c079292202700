import csv
import io
import time
from typing import Final

from tokenferry.dashboard._views import DashboardSection, Download, Variables, View
from tokenferry.dashboard._visit import Visit
from tokenferry.errors import UsageError
from tokenferry.units import spreadsheet_cell
from tokenferry.views import (
    MOST_SESSIONS,
    RANGES,
    quantile,
    request_story,
    running_story,
    session_story,
    traffic_query,
    traffic_rows,
    traffic_view,
)

_SAVED: Final = 10_000
"""The most requests in a downloaded file."""
_SHOWN: Final = 100
_STATUSES: Final = (
    ("ok", "ok"),
    ("failed", "failed"),
    ("slow", "slow (10 s or more)"),
    ("429", "429 limited"),
    ("500", "500"),
    ("502", "502"),
    ("503", "503"),
    ("529", "529 overloaded"),
    ("499", "499 client gone"),
)


def _show(visit: Visit) -> Variables:
    now = time.time()
    query = traffic_query(visit.query, now=now)
    running = visit.context.running()
    shown = running.matching(query) if query.shows == "requests" else ()
    return {
        "traffic": traffic_view(visit.context.books, query),
        "query": query,
        "ranges": tuple(RANGES),
        "quantile": quantile,
        "base": visit.context.base,
        "running": shown[:_SHOWN],
        "more_running": len(shown) - _SHOWN,
        "worker": running.worker,
        "now": now,
        "statuses": _STATUSES,
        "most_sessions": MOST_SESSIONS,
    }


def _save(visit: Visit) -> Download:
    """Download the page's list in full: up to 10,000 requests, or 500 sessions."""
    query = traffic_query(visit.query, now=time.time())
    out = io.StringIO()
    writer = csv.writer(out)
    for at, row in enumerate(traffic_rows(visit.context.books, query, most=_SAVED)):
        names = row.__struct_fields__
        if at == 0:
            writer.writerow(names)
        writer.writerow(spreadsheet_cell(getattr(row, name)) for name in names)
    return Download(f"tokenferry-{query.shows}.csv", out.getvalue().encode(), "text/csv")


def _request(visit: Visit) -> Variables:
    at = visit.query.get("at", "")
    at_ms = int(at) if at.isascii() and at.isdecimal() and len(at) <= 15 else None  # noqa: PLR2004  # digits that are a time
    return _story(visit, visit.path["id"], at_ms)


def _find(visit: Visit) -> Variables:
    """Show the request of a pasted id, which may have the header's name before it."""
    words = visit.query.get("id", "").split()
    if not words:
        raise UsageError("give the id of a request: x-tokenferry-request-id of its answer")
    return _story(visit, words[-1], None)


def _story(visit: Visit, request_id: str, at_ms: int | None) -> Variables:
    context = visit.context
    running = context.running().find(request_id)
    if running is not None:
        return {"story": running_story(running, time.time()), "heading": "Request"}
    return {"story": request_story(context.state, context.books, request_id, at_ms), "heading": "Request"}


def _session(visit: Visit) -> Variables:
    return {"story": session_story(visit.context.books, visit.path["id"]), "heading": "Session"}


TRAFFIC: Final = DashboardSection(
    views=(
        View("/traffic", "traffic.html", _show, title="Traffic"),
        View("/traffic.csv", "", _save),
        View("/traffic/requests", "request.html", _find),
        View("/traffic/requests/{id}", "request.html", _request),
        View("/traffic/sessions/{id}", "session.html", _session),
    )
)
