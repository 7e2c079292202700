import asyncio
import socket
from collections.abc import Sequence
from ipaddress import IPv6Address, ip_address
from itertools import chain, zip_longest
from typing import Any, NamedTuple

__all__ = ["Address", "DialError", "happy_eyeballs", "interleave", "resolve"]

_HEAD_START_S = 0.25  # RFC 8305, 5: the delay before the next address is tried as well
_KEEPALIVE_S = 60


class DialError(OSError):
    """There is no connection. Its text is a clause fit for a message, and holds no secret."""


class Address(NamedTuple):
    family: int
    sockaddr: tuple[Any, ...]


async def resolve(host: str, port: int) -> list[Address]:
    """Give the host's addresses in the order to try. Raises `OSError`, `UnicodeError` for a name that can't be one."""
    try:
        address = ip_address(host)
    except ValueError:
        loop = asyncio.get_running_loop()
        found = await loop.getaddrinfo(host, port, type=socket.SOCK_STREAM)
        return interleave([Address(family, sockaddr) for family, _, _, _, sockaddr in found])
    if isinstance(address, IPv6Address):
        return [Address(socket.AF_INET6, (host, port, 0, 0))]
    return [Address(socket.AF_INET, (host, port))]


def interleave(addresses: Sequence[Address]) -> list[Address]:
    """Alternate between the families, the resolver's favourite first (RFC 8305, 4)."""
    if not addresses:
        return []
    favourite = addresses[0].family
    ours = [address for address in addresses if address.family == favourite]
    others = [address for address in addresses if address.family != favourite]
    return [address for address in chain.from_iterable(zip_longest(ours, others)) if address is not None]


async def happy_eyeballs(addresses: Sequence[Address], head_start: float = _HEAD_START_S) -> socket.socket:
    """Connect to whichever address answers first; each gets a head start, in seconds, over the next (RFC 8305)."""
    if len(addresses) == 1:
        return await _connect(addresses[0])
    waiting = list(addresses)
    failure: OSError | None = None
    attempts: set[asyncio.Task[socket.socket]] = set()
    try:
        while waiting or attempts:
            if waiting:
                attempts.add(asyncio.create_task(_connect(waiting.pop(0))))
            done, _ = await asyncio.wait(
                attempts, timeout=head_start if waiting else None, return_when=asyncio.FIRST_COMPLETED
            )
            for attempt in done:
                attempts.discard(attempt)
                error = attempt.exception()
                if error is None:
                    return attempt.result()
                if not isinstance(error, OSError):
                    raise error
                failure = failure or error
    finally:
        for attempt in attempts:
            attempt.add_done_callback(_close_loser)
            attempt.cancel()
    raise failure or OSError("the name has no address")


def _close_loser(attempt: asyncio.Task[socket.socket]) -> None:
    if not attempt.cancelled() and attempt.exception() is None:
        attempt.result().close()


async def _connect(address: Address) -> socket.socket:
    sock = socket.socket(address.family, socket.SOCK_STREAM)
    try:
        sock.setblocking(False)
        sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        # A model may think for minutes without a byte; probes tell a dead path from a slow answer.
        sock.setsockopt(socket.SOL_SOCKET, socket.SO_KEEPALIVE, 1)
        if hasattr(socket, "TCP_KEEPIDLE"):
            sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_KEEPIDLE, _KEEPALIVE_S)
        await asyncio.get_running_loop().sock_connect(sock, address.sockaddr)
    except BaseException:
        sock.close()
        raise
    return sock
