from collections.abc import Iterable
from typing import Protocol


class Lifespan(Protocol):
    """What the owner of a `Server` does while it starts, serves and ends, in the order of these methods.

    Each one runs in the server's event loop and must not block, unless it says otherwise. Derive from `BaseLifespan`.
    """

    async def started(self) -> None:
        """The sockets listen: clients can connect from here on."""

    def every_second(self) -> None: ...

    async def every_minute(self) -> None:
        """May take its time: it is not called again until it has ended, and the end does not wait for it."""

    def hang_up(self) -> bool:
        """Whether a HUP has been dealt with; if not, it ends the server. Called by the signal's handler."""
        ...

    def ending(self) -> None:
        """The server is about to stop listening. Runs on a thread of its own and may block."""

    def tell(self, line: str) -> None:
        """Report what the server waits for, whenever that changes."""

    def waiting_for(self) -> Iterable[str]:
        """What else the end waits for, beside requests and streams."""
        ...

    async def finish(self) -> None:
        """The time for answers is up: end those that are left."""

    async def last(self) -> None:
        """All connections are closed. Not awaited after a second signal."""


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
