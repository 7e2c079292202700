import time
from typing import Final

from tokenferry.dashboard._views import DashboardSection, Variables, View
from tokenferry.dashboard._visit import Visit
from tokenferry.views import RANGES, quantile, request_story, session_story, traffic_query, traffic_view


def _show(visit: Visit) -> Variables:
    query = traffic_query(visit.query, now=time.time())
    view = traffic_view(visit.context.books, query)
    return {"traffic": view, "query": query, "ranges": tuple(RANGES), "quantile": quantile, "base": visit.context.base}


def _request(visit: Visit) -> Variables:
    at = visit.query.get("at", "")
    at_ms = int(at) if at.isascii() and at.isdecimal() and len(at) <= 15 else None  # noqa: PLR2004  # digits that are a time
    context = visit.context
    return {"story": request_story(context.state, context.books, visit.path["id"], at_ms), "heading": "Request"}


def _session(visit: Visit) -> Variables:
    return {"story": session_story(visit.context.books, visit.path["id"]), "heading": "Session"}


TRAFFIC: Final = DashboardSection(
    views=(
        View("/traffic", "traffic.html", _show, title="Traffic"),
        View("/traffic/requests/{id}", "request.html", _request),
        View("/traffic/sessions/{id}", "session.html", _session),
    )
)
