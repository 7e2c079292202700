"""The applications of the control plane, each made at its first request."""

import asyncio
from collections.abc import Callable

from tokenferry.gateway.auth.dashboard_guard import is_dashboard
from tokenferry.gateway.control.control_plane import Control
from tokenferry.gateway.proxy.body import Receive, Scope, Send


class LazyApplication:
    """An ASGI application that is imported on a thread at the first request. Only its own requests wait for that."""

    def __init__(self, make: Callable[[], Control]) -> None:
        self._make = make
        self._application: Control | None = None
        self._making: asyncio.Task[Control] | None = None

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if self._application is None:
            if self._making is None or self._making.done():
                self._making = asyncio.create_task(asyncio.to_thread(self._make))
            self._application = await asyncio.shield(self._making)
        await self._application(scope, receive, send)


class ControlApplications:
    """Dispatches to the dashboard, by path or host, or to the API."""

    def __init__(self, api: Control, dashboard: Control) -> None:
        self._api = api
        self._dashboard = dashboard

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        is_dashboards = "origin" in scope["state"] or is_dashboard(scope["raw_path"])
        await (self._dashboard if is_dashboards else self._api)(scope, receive, send)
