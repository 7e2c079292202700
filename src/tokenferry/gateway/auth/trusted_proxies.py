"""Finds the client of a request that came through trusted proxies."""

from collections.abc import Iterable, Sequence
from ipaddress import IPv4Address, IPv4Network, IPv6Address, IPv6Network, ip_address, ip_network

UNIX = "unix"
"""The name of peers on a Unix socket."""


class TrustedProxies:
    """Addresses and networks of proxies, and `unix`. Raises `ValueError` for any other name."""

    def __init__(self, names: Iterable[str] = ()) -> None:
        names = tuple(names)
        self._is_unix_trusted = UNIX in names
        self._networks: tuple[IPv4Network | IPv6Network, ...] = tuple(
            ip_network(name) for name in names if name != UNIX
        )

    def client(self, peer: str | None, forwarded: Sequence[bytes]) -> str | None:
        """Give the client's address: by X-Forwarded-For if the peer is trusted, otherwise the peer's own.

        None means a Unix socket. In a chain of proxies the last untrusted address counts.
        """
        return self.chain(peer, forwarded)[-1] if forwarded else peer

    def chain(self, peer: str | None, forwarded: Sequence[bytes]) -> list[str | None]:
        """Give the peer, and each address that a trusted one before it forwards. The client's comes last."""
        chain = [peer]
        if not forwarded or not self.trusts(peer):
            return chain
        for part in reversed(b",".join(forwarded).split(b",")):
            address = _parse(part.strip())
            if address is None:
                break
            chain.append(str(address))
            if not self._is_in(address):
                break
        return chain

    def trusts(self, peer: str | None) -> bool:
        if peer is None:
            return self._is_unix_trusted
        address = _parse(peer.encode("latin-1", "replace"))
        return address is not None and self._is_in(address)

    def _is_in(self, address: IPv4Address | IPv6Address) -> bool:
        return any(address in network for network in self._networks if network.version == address.version)


def _parse(text: bytes) -> IPv4Address | IPv6Address | None:
    """Parse an address with or without a port; None for any other text."""
    shown = text.decode("latin-1")
    if shown.startswith("["):
        shown = shown[1:].partition("]")[0]
    elif shown.count(":") == 1:
        shown = shown.partition(":")[0]
    try:
        address = ip_address(shown)
    except ValueError:
        return None
    return getattr(address, "ipv4_mapped", None) or address
