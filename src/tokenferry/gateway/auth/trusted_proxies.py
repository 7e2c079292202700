"""Whose a request is that came through a proxy: what it forwards is believed of none but those that are trusted."""

from collections.abc import Iterable, Sequence
from ipaddress import IPv4Address, IPv4Network, IPv6Address, IPv6Network, ip_address, ip_network

UNIX = "unix"
"""Stands for whoever comes over a Unix socket."""


class TrustedProxies:
    """Addresses and networks of proxies, and `unix`. Raises `ValueError` for what is neither."""

    def __init__(self, names: Iterable[str] = ()) -> None:
        names = tuple(names)
        self._is_unix_trusted = UNIX in names
        self._networks: tuple[IPv4Network | IPv6Network, ...] = tuple(
            ip_network(name) for name in names if name != UNIX
        )

    def client(self, peer: str | None, forwarded: Sequence[bytes]) -> str | None:
        """The client's address, if the peer is trusted and tells it (X-Forwarded-For); else the peer's own.

        None stands for a Unix socket. Of what a chain of proxies tells, the last address counts that isn't trusted.
        """
        return self.chain(peer, forwarded)[-1] if forwarded else peer

    def chain(self, peer: str | None, forwarded: Sequence[bytes]) -> list[str | None]:
        """The peer, and each address that is believed because the one before it is trusted; the client's comes last."""
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
    """An address, with or without a port."""
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
