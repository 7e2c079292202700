from typing import Protocol

from tokenferry.state import Role


class Actor(Protocol):
    """Who does something: a client key, or a session of the dashboard. `audit.log` has its name."""

    @property
    def id(self) -> str: ...

    @property
    def name(self) -> str: ...

    @property
    def role(self) -> Role: ...
