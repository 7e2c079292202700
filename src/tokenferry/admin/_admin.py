import asyncio
from collections.abc import Awaitable, Callable, MutableMapping
from typing import Any, TypeAlias

from tokenferry.actions import ActionContext, LoginService

Message: TypeAlias = MutableMapping[str, Any]
Receive: TypeAlias = Callable[[], Awaitable[Message]]
Send: TypeAlias = Callable[[Message], Awaitable[None]]
Application: TypeAlias = Callable[[Message, Receive, Send], Awaitable[None]]


class Admin:
    """The API as an ASGI application, for behind a guard that has checked source and key.

    The framework costs most of a second to import. That is done by a thread, when the first request comes; those that
    come meanwhile wait for it, and nothing else does.
    """

    def __init__(self, parts: ActionContext) -> None:
        self._parts = parts
        self._service = LoginService(parts)
        self._application: Application | None = None
        self._making: asyncio.Task[Application] | None = None

    async def __call__(self, scope: Message, receive: Receive, send: Send) -> None:
        if self._application is None:
            if self._making is None or self._making.done():
                self._making = asyncio.create_task(asyncio.to_thread(self._make))
            self._application = await asyncio.shield(self._making)
        await self._application(scope, receive, send)

    def _make(self) -> Application:
        from tokenferry.admin._app import make_app  # noqa: PLC0415  # see above

        return make_app(self._parts, self._service)

    def drain(self, timeout: float) -> bool:
        """Wait until no login is being stored any more; tells whether that was so in time (seconds)."""
        return self._service.drain(timeout)
