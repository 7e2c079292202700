from typing import Final

from tokenferry.dashboard._views import DashboardSection, Variables, View
from tokenferry.dashboard._visit import Visit


def _list(visit: Visit) -> Variables:
    return {"accounts": visit.context.states()}


ACCOUNTS: Final = DashboardSection(views=(View("/accounts", "accounts.html", _list, title="Accounts"),))
