import asyncio
from asyncio import AbstractEventLoop
from collections.abc import Coroutine, Mapping
from typing import Any, ClassVar, Final, TypeVar

from msgspec import field

from tokenferry.actions import ActionContext, LoginService
from tokenferry.errors import UnknownName
from tokenferry.secret import Concealing
from tokenferry.state import EVERYTHING, DashboardSession, Rights

_Found = TypeVar("_Found")
_PATIENCE: Final = 30.0


class Visit(Concealing, frozen=True):
    """One request of a signed-in visitor, with everything that a view or an action needs."""

    hidden: ClassVar = ("csrf", "form")

    context: ActionContext
    service: LoginService
    session: DashboardSession
    csrf: str
    """The token that each form must hold."""
    url: str
    """Path and query as requested."""
    path: Mapping[str, str] = field(default_factory=dict)
    """The values of the placeholders in the view's path."""
    query: Mapping[str, str] = field(default_factory=dict)
    form: Mapping[str, str] = field(default_factory=dict)
    """The fields that were sent; empty for a view."""
    fault: str = ""
    """Why the form was refused."""
    wrong: Mapping[str, str] = field(default_factory=dict)
    """The faults of single fields of the form, by name."""
    loop: AbstractEventLoop | None = None
    """The gateway's."""

    def wait_for(self, doing: Coroutine[Any, Any, _Found]) -> _Found:
        """Run a coroutine on the gateway's event loop, and wait on this thread for its result."""
        assert self.loop is not None, "a visit of a request has it"
        return asyncio.run_coroutine_threadsafe(doing, self.loop).result(_PATIENCE)

    @property
    def may_change(self) -> bool:
        return self.session.is_admin

    @property
    def rights(self) -> Rights:
        """The rights of the session's client key; everything for the other roles. Raises `UnknownName`."""
        if self.session.role != "client":
            return EVERYTHING
        if not self.session.key:
            raise UnknownName("this session has no client key")
        return self.context.keys.get(self.session.key).rights


def sentence(message: str) -> str:
    """Make the message of an action or an error a sentence."""
    return f"{message[:1].upper()}{message[1:].rstrip('.')}."
