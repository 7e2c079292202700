import json
from collections.abc import Iterator, Mapping
from typing import Final

from tokenferry.dashboard._views import DashboardSection, Variables, View
from tokenferry.dashboard._visit import Visit
from tokenferry.errors import UsageError
from tokenferry.readiness import RouteExplanation, RouteQuestion
from tokenferry.state import ClientKey
from tokenferry.views import routing_table

_CREDENTIALS: Final = frozenset({"authorization", "x-api-key", "x-tokenferry-key", "cookie"})
_SESSION: Final = "x-claude-code-session-id"


def _show(visit: Visit) -> Variables:
    asked = visit.query
    fault, found = "", None
    if asked.get("try"):
        try:
            found = _explained(visit, asked)
        except UsageError as refused:
            fault = str(refused)
    return {
        "table": routing_table(visit.context.home),
        "default_provider": visit.context.broker.default_provider(),
        "keys": [key.name for key in visit.context.keys.list() if key.role == "client" and key.revoked_at is None],
        "asked": asked,
        "found": found,
        "asking_fault": fault,
    }


def _explained(visit: Visit, asked: Mapping[str, str]) -> RouteExplanation:
    """Return the answer of `explain route`, by this worker's pool. Nothing is sent."""
    model, body = asked.get("model", "").strip(), asked.get("body", "").strip()
    if model and body:
        raise UsageError("the body names the model; leave one of them out")
    headers = [*_headers(asked.get("headers", ""))]
    if session := asked.get("session", "").strip():
        headers.append((_SESSION, session))
    content = body or json.dumps({"model": model} if model else {})
    question = RouteQuestion(content, tuple(headers), asked.get("key") or None)
    asker = ClientKey(visit.session.id, visit.session.name, visit.session.role, 0, "")
    return visit.wait_for(_awaited(visit, asker, question))


async def _awaited(visit: Visit, asker: ClientKey, question: RouteQuestion) -> RouteExplanation:
    return await visit.context.explain(asker, question)


def _headers(text: str) -> Iterator[tuple[str, str]]:
    for line in filter(None, map(str.strip, text.splitlines())):
        name, colon, value = line.partition(":")
        if not colon:
            raise UsageError(f"{line[:80]!r} is not a header; write it as NAME: VALUE")
        if (name := name.strip().lower()) not in _CREDENTIALS:
            yield name, value.strip()


ROUTING: Final = DashboardSection(views=(View("/routing", "routing.html", _show, title="Routing"),))
