import time
from collections.abc import Sequence
from typing import Final

from tokenferry.dashboard._logins import pending
from tokenferry.dashboard._views import EVERYBODY, DashboardSection, Variables, View
from tokenferry.dashboard._visit import Visit
from tokenferry.readiness import ANYONE, ServiceStatus
from tokenferry.views import NowView, WindowShare, key_uses, now_view, own_usage

_SHOWN: Final = 8
"""The number of accounts whose windows are shown, those closest to their limits first."""


def _show(visit: Visit) -> Variables:
    context, now = visit.context, time.time()
    if visit.session.role == "client":
        key = context.keys.get(visit.session.key or "")
        (use,) = key_uses(context.home, [key], context.books, now=now)
        mine = own_usage(context.books, key, now=now)
        return {"mine": mine, "use": use, "now": None, "url": context.base or ""}
    services = [ServiceStatus(**one) for one in context.readiness(ANYONE)]
    view = now_view(context.home, context.broker, context.books, services, now=now)
    windows = _by_account(view)
    return {
        "mine": None,
        "use": None,
        "now": view,
        "windows": windows[:_SHOWN],
        "rows": {row.name: row for row in view.accounts},
        "more": len(windows) - _SHOWN,
        "url": context.base,
        "pending": pending(visit),
    }


def _by_account(view: NowView) -> list[tuple[str, Sequence[WindowShare]]]:
    found: dict[str, list[WindowShare]] = {}
    for one in view.windows:
        found.setdefault(one.account, []).append(one)
    return sorted(found.items(), key=lambda item: (-max(one.used for one in item[1]), item[0]))


NOW: Final = DashboardSection(views=(View("/", "now.html", _show, title="Now", roles=EVERYBODY),))
