import asyncio
import socket
from collections.abc import Sequence
from ipaddress import IPv6Address, ip_address
from itertools import chain, zip_longest
from typing import Any, NamedTuple

__all__ = ["Address", "DialError", "happy_eyeballs", "interleave", "resolve"]

_HEAD_START_S = 0.25  # RFC 8305, 5: the delay before the next address is tried
_KEEPALIVE_S = 60


class DialError(OSError):
    """A connection failed. The text is a clause for messages and holds no secret."""


class Address(NamedTuple):
    family: int
    sockaddr: tuple[Any, ...]


async def resolve(host: str, port: int) -> list[Address]:
    """Give the host's addresses in the order to try. Raises `OSError`, and `UnicodeError` for an invalid name."""
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
    """Alternate between the address families, the resolver's first choice first (RFC 8305, 4)."""
    if not addresses:
        return []
    preferred = addresses[0].family
    same = [address for address in addresses if address.family == preferred]
    others = [address for address in addresses if address.family != preferred]
    return [address for address in chain.from_iterable(zip_longest(same, others)) if address is not None]


async def happy_eyeballs(addresses: Sequence[Address], head_start: float = _HEAD_START_S) -> socket.socket:
    """Connect to the address that answers first; each gets a head start in seconds over the next (RFC 8305)."""
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
        # A model may be silent for minutes; keep-alive probes detect a dead path.
        sock.setsockopt(socket.SOL_SOCKET, socket.SO_KEEPALIVE, 1)
        if hasattr(socket, "TCP_KEEPIDLE"):
            sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_KEEPIDLE, _KEEPALIVE_S)
        host, *rest = address.sockaddr
        # Of a text the event loop would load the codec for international names, half a megabyte.
        await asyncio.get_running_loop().sock_connect(sock, (host.encode("ascii"), *rest))
    except BaseException:
        sock.close()
        raise
    return sock
