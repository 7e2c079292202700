import asyncio
import os
from typing import Any

import uvicorn
from uvicorn.protocols.http.httptools_impl import HttpToolsProtocol
from uvicorn.server import ServerState

from tokenferry.errors import TokenferryError, UsageError
from tokenferry.sandbox._app import App
from tokenferry.sandbox._http import LOOPBACK
from tokenferry.sandbox._line import CONNECTION
from tokenferry.sandbox._state import State

_KEEP_ALIVE = 600  # seconds; long, so that no pooled connection closes during a test
_FAREWELL = 2.0


class Listener:
    """The sandbox on a socket of the running event loop. Starts and stops at once."""

    def __init__(self, state: State) -> None:
        self._state = state
        self._server: asyncio.Server | None = None
        self._shared = ServerState()

    async def start(self, host: str, port: int) -> int:
        """Listen, and return the port."""
        if host not in LOOPBACK:
            raise UsageError(f"The sandbox listens on 127.0.0.1, localhost or ::1 only, not on {host}.")
        config = uvicorn.Config(
            App(self._state),
            interface="asgi3",
            http=HttpToolsProtocol,
            ws="none",
            lifespan="off",
            log_config=None,
            access_log=False,
            proxy_headers=False,
            server_header=False,
            date_header=False,
            timeout_keep_alive=_KEEP_ALIVE,
        )
        config.load()
        try:
            self._server = await asyncio.get_running_loop().create_server(lambda: self._connect(config), host, port)
        except OSError as error:
            text = os.strerror(error.errno) if error.errno else str(error)
            raise TokenferryError(
                f"the sandbox can't listen on {host}:{port} ({text}); choose another port, or 0 for any",
            ) from error
        bound: int = self._server.sockets[0].getsockname()[1]
        shown = f"[{host}]" if ":" in host else host
        self._state.issuer = f"http://{shown}:{bound}"
        return bound

    def _connect(self, config: uvicorn.Config) -> HttpToolsProtocol:
        # uvicorn copies this into the `state` of each scope, so that an answer can cut its own connection.
        link: dict[str, Any] = {}
        protocol = HttpToolsProtocol(config, self._shared, link, asyncio.get_running_loop())
        link[CONNECTION] = protocol
        return protocol

    async def stop(self) -> None:
        """Cut every connection, and wait until their tasks have ended."""
        if self._server is not None:
            self._server.close()
        for connection in list(self._shared.connections):
            connection.transport.abort()
        await asyncio.sleep(0)  # the event loop calls connection_lost on its next round
        if self._shared.tasks:
            await asyncio.wait(set(self._shared.tasks), timeout=_FAREWELL)
