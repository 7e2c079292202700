"""The dashboard's sections, in the order of the navigation. A new subject adds its `DashboardSection` here."""

from typing import Final

from tokenferry.dashboard._accounts import ACCOUNTS
from tokenferry.dashboard._keys import KEYS
from tokenferry.dashboard._now import NOW
from tokenferry.dashboard._routing import ROUTING
from tokenferry.dashboard._sessions import SESSIONS
from tokenferry.dashboard._settings import SETTINGS
from tokenferry.dashboard._traffic import TRAFFIC
from tokenferry.dashboard._views import DashboardSection, View

SECTIONS: Final[tuple[DashboardSection, ...]] = (NOW, ACCOUNTS, TRAFFIC, ROUTING, KEYS, SETTINGS, SESSIONS)

NAVIGATION: Final[tuple[View, ...]] = tuple(view for section in SECTIONS for view in section.views if view.title)
