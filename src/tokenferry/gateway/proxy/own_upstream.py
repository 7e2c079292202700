"""A gateway that is its own upstream would send each request round and round; it is refused where that shows."""

import contextlib
import socket
from collections.abc import Iterable
from ipaddress import IPv4Address, IPv6Address, ip_address
from typing import Final
from urllib.parse import urlsplit

from tokenferry.errors import ConfigError
from tokenferry.gateway.auth.guard import own_hosts
from tokenferry.providers import Provider
from tokenferry.settings import ServerSettings

_PORTS: Final = {"http": 80, "https": 443}


def check_upstreams(providers: Iterable[Provider], server: ServerSettings, port: int | None = None) -> None:
    """Raise `ConfigError` with the providers whose base_url leads back to this gateway.

    `port` is the one it listens on, if that differs from `[server]`. A host name is resolved only if the URL has the
    gateway's port.
    """
    port = server.port if port is None else port
    looped = [one for one in providers if one.enabled and _leads_back(one.base_url, server, port)]
    faults = [f"providers.{one.name}.base_url {one.base_url} is its own address; set the API's" for one in looped]
    if faults:
        raise ConfigError("this gateway would be its own upstream:", tuple(faults))


def _leads_back(url: str, server: ServerSettings, port: int) -> bool:
    parts = urlsplit(url)
    host = (parts.hostname or "").rstrip(".").lower()
    shown = f"[{host}]" if ":" in host else host
    at = parts.port or _PORTS.get(parts.scheme, 0)
    own_names = {name.lower() for name in server.allowed_hosts}
    if shown in own_names or f"{shown}:{at}" in own_names:
        return True
    if not (server.tcp and port) or at != port:
        return False
    if f"{shown}:{at}".encode() in own_hosts(server.host, port, ()):
        return True
    return any(_is_listened_at(address, server.host) for address in _addresses(host, at))


def _addresses(host: str, port: int) -> set[str]:
    with contextlib.suppress(ValueError):
        return {str(ip_address(host))}
    with contextlib.suppress(OSError, UnicodeError):
        return {str(found[4][0]) for found in socket.getaddrinfo(host, port, type=socket.SOCK_STREAM)}
    return set()


def _is_listened_at(address: str, host: str) -> bool:
    """Whether a connection to the address reaches a listener on `host`."""
    there: IPv4Address | IPv6Address = ip_address(address.partition("%")[0])
    if isinstance(there, IPv6Address):
        there = there.ipv4_mapped or there
    try:
        here = ip_address(host)
    except ValueError:
        here = ip_address("127.0.0.1")  # localhost, as `bind` takes it
    if there == here or (there.is_unspecified and (here.is_loopback or here.is_unspecified)):
        return True
    return here.is_unspecified and _is_own(str(there))


def _is_own(address: str) -> bool:
    """Whether it is an address of this machine."""
    family = socket.AF_INET6 if ":" in address else socket.AF_INET
    with contextlib.suppress(OSError), socket.socket(family, socket.SOCK_DGRAM) as sock:
        sock.bind((address, 0))
        return True
    return False
