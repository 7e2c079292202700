import asyncio
import time
from collections.abc import Callable
from typing import Final

from starlette.requests import Request
from starlette.types import Receive, Scope, Send

from tokenferry.actions import ActionContext
from tokenferry.secret import Secret
from tokenferry.state import DashboardSession

_LOOK: Final = 1.0
_LEAST: Final = 10.0
"""Seconds between events in any case, since limits in memory have no version to compare."""
_HEAD: Final = (
    (b"content-type", b"text/event-stream"),
    (b"cache-control", b"no-store"),
    (b"x-accel-buffering", b"no"),
)
_SIGN_IN: Final = ((b"content-length", b"0"), (b"hx-refresh", b"true"))
"""Makes the page reload, which shows the sign-in page."""


class Events:
    """Notifies open pages of changes (server-sent events), until their session or the gateway ends.

    An event has no content: the page requests its own view again, with the rights that it has then.
    """

    def __init__(
        self,
        context: ActionContext,
        session_of: Callable[[Request], tuple[DashboardSession, Secret] | None],
        *,
        monotonic: Callable[[], float] = time.monotonic,
    ) -> None:
        self._context = context
        self._session_of = session_of
        self._monotonic = monotonic

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        request = Request(scope)
        if self._session_of(request) is None:
            await send({"type": "http.response.start", "status": 401, "headers": list(_SIGN_IN)})
            await send({"type": "http.response.body", "body": b""})
            return
        await send({"type": "http.response.start", "status": 200, "headers": list(_HEAD)})
        await send({"type": "http.response.body", "body": b": here\n\n", "more_body": True})
        gone = asyncio.create_task(_until_gone(receive))
        stamp, sent_at = self._context.state.version(), self._monotonic()
        try:
            while not gone.done():
                await asyncio.wait((gone,), timeout=_LOOK)
                if self._context.is_ending() or self._session_of(request) is None:
                    break
                latest, now = self._context.state.version(), self._monotonic()
                if latest != stamp or now - sent_at >= _LEAST:
                    stamp, sent_at = latest, now
                    event = b"event: changed\ndata: \n\n"
                    await send({"type": "http.response.body", "body": event, "more_body": True})
        finally:
            gone.cancel()
        await send({"type": "http.response.body", "body": b""})


async def _until_gone(receive: Receive) -> None:
    while (await receive())["type"] != "http.disconnect":
        pass
