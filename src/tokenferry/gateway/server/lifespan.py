from collections.abc import Iterable
from typing import Protocol


class Lifespan(Protocol):
    """Callbacks of a `Server` for its owner, in order. Derive from `BaseLifespan`.

    They run in the server's event loop and must not block, unless stated otherwise.
    """

    async def started(self) -> None:
        """Called once clients can connect."""

    def every_second(self) -> None: ...

    async def every_minute(self) -> None:
        """May be slow. It isn't called again before it has ended, and the server doesn't wait for it at the end."""

    def hang_up(self) -> bool:
        """Handle a HUP. Gives False if the signal shall end the server. Called by the signal handler."""
        ...

    def ending(self) -> None:
        """Called before the server stops listening, on another thread. May block."""

    def tell(self, line: str) -> None:
        """Report what the server waits for, whenever that changes."""

    def waiting_for(self) -> Iterable[str]:
        """Give what else the end waits for, besides requests and streams."""
        ...

    async def finish(self) -> None:
        """End the remaining answers, whose time is up."""

    async def last(self) -> None:
        """Called when all connections are closed, but not after a second signal."""


class BaseLifespan:
    """A `Lifespan` that does nothing: a HUP ends the server."""

    async def started(self) -> None:
        pass

    def every_second(self) -> None:
        pass

    async def every_minute(self) -> None:
        pass

    def hang_up(self) -> bool:
        return False

    def ending(self) -> None:
        pass

    def tell(self, line: str) -> None:
        pass

    def waiting_for(self) -> Iterable[str]:
        return ()

    async def finish(self) -> None:
        pass

    async def last(self) -> None:
        pass
