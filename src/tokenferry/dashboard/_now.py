from typing import Final

from tokenferry.dashboard._views import EVERYBODY, DashboardSection, Variables, View
from tokenferry.dashboard._visit import Visit


def _show(visit: Visit) -> Variables:
    return {"states": dict(visit.context.states()) if visit.session.role != "client" else {}}


NOW: Final = DashboardSection(views=(View("/", "now.html", _show, title="Now", roles=EVERYBODY),))
