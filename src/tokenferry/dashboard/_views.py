"""The tables of views (GET) and of actions (POST)."""

from collections.abc import Callable, Mapping
from typing import Final, TypeAlias

from msgspec import Struct

from tokenferry.dashboard._visit import Visit
from tokenferry.state import Role

READERS: Final[frozenset[Role]] = frozenset(("admin", "viewer"))
ADMINS: Final[frozenset[Role]] = frozenset(("admin",))
EVERYBODY: Final[frozenset[Role]] = frozenset(("admin", "viewer", "client"))

Variables: TypeAlias = Mapping[str, object]


class View(Struct, frozen=True):
    """A page. `show` gives the variables of its template; it runs on a thread and may read files and databases.

    `path` lies below /dashboard and may have placeholders, as in `/accounts/{name}`. A view with a `title` is in the
    navigation. What is in the template's block `live` is brought up to date while the page is open. `show` never
    changes anything: GET requests don't act. Errors of `tokenferry.errors` become a page with their sentence.
    """

    path: str
    template: str
    show: Callable[[Visit], "Variables | Download"]
    title: str = ""
    roles: frozenset[Role] = READERS


class Download(Struct, frozen=True):
    """A file that the browser saves."""

    name: str
    content: bytes
    kind: str


class Redirect(Struct, frozen=True):
    """A completed action: the browser goes to `url`, whose page shows the `message` once."""

    url: str
    message: str = ""


class Shown(Struct, frozen=True):
    """A completed action whose answer is this page, since it can't be requested again."""

    template: str
    variables: Variables


class FormAction(Struct, frozen=True):
    """The action of a form. `act` runs on a thread; the form's fields are `visit.form`.

    If it raises an error of `tokenferry.errors`, `view` is shown again, with the error's sentence as `visit.fault` and
    the typed fields as `visit.form`. Session, CSRF token and role have been checked.
    """

    path: str
    act: Callable[[Visit], Redirect | Shown]
    view: View
    roles: frozenset[Role] = ADMINS


class DashboardSection(Struct, frozen=True):
    """Views and actions of one subject."""

    views: tuple[View, ...] = ()
    actions: tuple[FormAction, ...] = ()
