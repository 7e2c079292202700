from typing import Final, Protocol

from msgspec import Struct

from tokenferry.state import Role


class Actor(Protocol):
    """The actor: a client key, or a session of the dashboard. `audit.log` records its name."""

    @property
    def id(self) -> str: ...

    @property
    def name(self) -> str: ...

    @property
    def role(self) -> Role: ...


class Operator(Struct, frozen=True):
    """The person at this machine, by a command; `audit.log` records only the system's user."""

    id: str = ""
    name: str = ""
    role: Role = "admin"


OPERATOR: Final = Operator()
