import asyncio
from typing import cast

from tokenferry.upstream._happy_eyeballs import DialError
from tokenferry.upstream._origin import Origin
from tokenferry.upstream._proxy import Proxy
from tokenferry.upstream._response_parser import ResponseParser

__all__ = ["Tunnel", "connect_request", "tunnel_fault"]

_OK = 200
_MULTIPLE_CHOICES = 300
_PROXY_AUTHENTICATION_REQUIRED = 407


def connect_request(origin: Origin, proxy: Proxy) -> bytes:
    """Build the CONNECT request. It may hold a password, so don't assign it to a variable."""
    host = f"[{origin.host}]" if ":" in origin.host else origin.host
    place = f"{host}:{origin.port}".encode()
    lines = [b"CONNECT %b HTTP/1.1\r\nhost: %b\r\n" % (place, place)]
    if proxy.authorization is not None:
        lines.append(b"proxy-authorization: Basic %b\r\n" % proxy.authorization.reveal().encode())
    return b"".join([*lines, b"\r\n"])


def tunnel_fault(status: int) -> str | None:
    """Say why the proxy refused the tunnel; None if it opened it."""
    if _OK <= status < _MULTIPLE_CHOICES:
        return None
    if status == _PROXY_AUTHENTICATION_REQUIRED:
        return "demands a user name and password (407); put them into the proxy's URL: http://NAME:PASSWORD@HOST:PORT"
    return f"refused the tunnel ({status})"


class Tunnel(asyncio.Protocol):
    """A connection to a proxy, until its tunnel is open. The peer must never send first."""

    def __init__(self, proxy: Proxy) -> None:
        self._proxy = proxy
        self._reader = ResponseParser()
        self._reader.expect(head_only=True)
        self._transport: asyncio.Transport | None = None
        self._status: asyncio.Future[int] = asyncio.get_running_loop().create_future()
        self._fault: str | None = None

    @property
    def transport(self) -> asyncio.Transport:
        assert self._transport is not None
        return self._transport

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self._transport = cast("asyncio.Transport", transport)

    async def open(self, origin: Origin) -> None:
        """Open the tunnel to the origin. Raises `DialError`."""
        self.transport.write(connect_request(origin, self._proxy))
        fault = tunnel_fault(await self._status)
        if fault is not None:
            raise DialError(f"the proxy {self._proxy} {fault}")
        self.check()

    def check(self) -> None:
        """Raise `DialError` if the proxy sent anything but its answer, or the connection is lost."""
        if self._fault is not None:
            raise DialError(f"the proxy {self._proxy} {self._fault}")

    def data_received(self, data: bytes) -> None:
        if self._status.done():
            self._fail("sent unexpected bytes")
            return
        result = self._reader.feed(data)
        if result.fault is not None:
            self._fail(f"sent an answer that can't be used: {result.fault}")
        elif result.head is not None:
            self._status.set_result(result.head.status)
            if self._reader.surplus:
                self._fault = "sent unexpected bytes"

    def eof_received(self) -> None:
        self._fail("closed the connection")

    def connection_lost(self, exc: Exception | None) -> None:  # noqa: ARG002  # the reason does not matter
        self._fail("closed the connection")

    def _fail(self, fault: str) -> None:
        self._fault = self._fault or fault
        if not self._status.done():
            self._status.set_exception(DialError(f"the proxy {self._proxy} {fault}"))
            self._status.exception()  # retrieved, so that asyncio does not log it if no caller waits
