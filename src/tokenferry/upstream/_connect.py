import asyncio
import os
import socket
import ssl
from pathlib import Path

from tokenferry.upstream._connection import Connection
from tokenferry.upstream._happy_eyeballs import Address, DialError, happy_eyeballs, resolve
from tokenferry.upstream._origin import Origin
from tokenferry.upstream._proxy import Proxy
from tokenferry.upstream._tls import client_context
from tokenferry.upstream._tunnel import Tunnel

__all__ = ["Connector", "reason_of"]

# OpenSSL's codes for a valid certificate of another host or address.
_OTHER_NAMES = frozenset({62, 64})


class Connector:
    """Opens connections to one origin: name resolution, TCP, a proxy's tunnel if needed, and TLS."""

    def __init__(
        self, origin: Origin, *, proxy: Proxy | None, ssl_context: ssl.SSLContext | None, ca_file: Path | None
    ) -> None:
        self._origin = origin
        self._proxy = proxy
        self._ssl_context = ssl_context
        self._ca_file = ca_file
        self._lookup: asyncio.Task[list[Address]] | None = None

    async def connect(self, connection: Connection) -> None:
        """Open the connection. Raises `OSError`, and `UnicodeError` for an invalid name."""
        if self._origin.secure and self._ssl_context is None:
            context = await asyncio.get_running_loop().run_in_executor(None, client_context, self._ca_file)
            self._ssl_context = context
        if self._proxy is None:
            origin = self._origin
            await self._open(connection, origin.host, origin.port, secure=origin.secure)
        else:
            await self._tunnel(connection, self._proxy)

    def close(self) -> None:
        """Cancel a running name resolution."""
        if self._lookup is not None:
            self._lookup.cancel()

    async def _open(self, protocol: asyncio.Protocol, host: str, port: int, *, secure: bool) -> None:
        sock = await happy_eyeballs(await self._addresses(host, port))
        await asyncio.get_running_loop().create_connection(
            lambda: protocol,
            sock=sock,
            ssl=self._ssl_context if secure else None,
            server_hostname=host if secure else None,
        )

    async def _tunnel(self, connection: Connection, proxy: Proxy) -> None:
        assert self._ssl_context is not None
        tunnel = Tunnel(proxy)
        try:
            await self._open(tunnel, proxy.host, proxy.port, secure=proxy.secure)
        except (OSError, UnicodeError) as error:
            raise DialError(f"the proxy {proxy} can't be reached ({reason_of(error)})") from error
        try:
            await tunnel.open(self._origin)
            secured = await asyncio.get_running_loop().start_tls(
                tunnel.transport, tunnel, self._ssl_context, server_hostname=self._origin.host
            )
            tunnel.check()
        except BaseException:
            tunnel.transport.abort()
            raise
        assert secured is not None
        secured.set_protocol(connection)
        connection.connection_made(secured)

    async def _addresses(self, host: str, port: int) -> list[Address]:
        """Resolve a name. Concurrent callers share one lookup, since the resolver has few threads."""
        if self._lookup is None:
            self._lookup = asyncio.ensure_future(resolve(host, port))
            self._lookup.add_done_callback(self._looked_up)
        return await asyncio.shield(self._lookup)

    def _looked_up(self, lookup: asyncio.Task[list[Address]]) -> None:
        self._lookup = None
        if not lookup.cancelled():
            lookup.exception()  # retrieved, so that asyncio does not log it if no caller waits


def reason_of(error: OSError | UnicodeError) -> str:
    """Give the reason for a failed connection as a clause."""
    match error:
        case DialError():
            return str(error)
        case socket.gaierror():
            return f"its name could not be resolved ({error.strerror})"
        case ssl.SSLCertVerificationError():
            hint = (
                ""
                if error.verify_code in _OTHER_NAMES
                else "; put your own authority's certificate into [upstream] ca_file"
            )
            return f"its TLS certificate is not trusted ({error.verify_message}){hint}"
        case ssl.SSLError():
            return f"TLS failed ({error.reason or 'no reason given'})"
        case UnicodeError():
            return "its name can't be encoded"
        case _:
            # asyncio puts its own sentences into `strerror`.
            return os.strerror(error.errno).lower() if error.errno else str(error) or type(error).__name__
