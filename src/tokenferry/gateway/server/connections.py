"""The connections of a listener, and whose requests are gone on with when."""

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    import asyncio

    from tokenferry.gateway.server.connection import ClientConnection


class Connections:
    """What the connections of a listener share. `limit` counts each of them, and each request in flight, once."""

    def __init__(self, limit: int) -> None:
        self.limit = limit
        self.is_ending = False
        self.all: set[ClientConnection] = set()
        self.in_flight = 0
        self.tasks: set[asyncio.Task[None]] = set()
        """Of requests that are answered by one."""
        self._ready: list[ClientConnection] = []

    def proceed_soon(self, connection: "ClientConnection") -> None:
        """Go on with its request once everything that has come by now is read.

        Requests that are gone on with one after the other cost a good deal less than those between which others come.
        """
        if not connection.is_ready:
            connection.is_ready = True
            if not self._ready:
                connection.loop.call_soon(self._proceed)
            self._ready.append(connection)

    def _proceed(self) -> None:
        ready, self._ready = self._ready, []
        for connection in ready:
            try:
                connection.proceed()
            except Exception as fault:  # noqa: BLE001  # the others must go on
                connection.transport.abort()
                context = {"message": "a request could not be gone on with", "exception": fault}
                connection.loop.call_exception_handler(context)

    def make_room(self, asking: "ClientConnection") -> bool:
        """At the limit close the other connection that has been idle for longest; tell whether there is room now."""
        if len(self.all) + self.in_flight <= self.limit:
            return True
        idle = [one for one in self.all if one.is_idle and one is not asking]
        return any(one.close_if_idle() for one in sorted(idle, key=lambda one: one.idle_since))
