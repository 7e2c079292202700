"""The open sessions, and the form that ends one."""

from typing import Final

from tokenferry.audit import note_change
from tokenferry.dashboard._views import ADMINS, EVERYBODY, DashboardSection, FormAction, Redirect, Variables, View
from tokenferry.dashboard._visit import Visit
from tokenferry.errors import UnknownName

_WAYS: Final = {"key": "with a key", "command": "tokenferry dashboard", "proxy": "through the proxy"}


def _list(visit: Visit) -> Variables:
    found = visit.context.state.sessions.list()
    if not visit.session.is_admin:
        found = [one for one in found if one.id == visit.session.id]
    return {"heading": "Sessions", "sessions": found, "ways": _WAYS}


def _end(visit: Visit) -> Redirect:
    sessions, wanted = visit.context.state.sessions, visit.path["id"]
    ended = sessions.get(wanted)
    if ended is None or not sessions.end(wanted):
        raise UnknownName("that session has ended already")
    note_change(visit.context.home, "session.end", ended.name, id=ended.id, client=visit.session.name)
    return Redirect("/dashboard/sessions", f"The session of {ended.name} has ended.")


_VIEW: Final = View("/sessions", "sessions.html", _list, roles=EVERYBODY)

SESSIONS: Final = DashboardSection(
    views=(_VIEW,), actions=(FormAction("/sessions/{id}/end", _end, _VIEW, roles=ADMINS),)
)
