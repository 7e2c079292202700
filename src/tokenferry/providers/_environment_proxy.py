"""Finds the proxy that the environment names for a host, and the hosts that NO_PROXY exempts."""

import re
from collections.abc import Mapping
from ipaddress import IPv4Address, IPv4Network, IPv6Address, IPv6Network, ip_address, ip_network
from typing import NamedTuple

_PORTED = re.compile(r"(?:\[(?P<six>[^\]]*)\]|(?P<host>[^:]*))(?::(?P<port>[0-9]{1,5}))?")


class ProxyExemption(NamedTuple):
    """One entry of NO_PROXY: all hosts, a network, an address, or a name and all names below it."""

    place: IPv4Network | IPv6Network | IPv4Address | IPv6Address | str
    port: int | None

    def covers(self, host: str, port: int) -> bool:
        if self.port not in (None, port):
            return False
        address = _address(host)
        match self.place:
            case IPv4Network() | IPv6Network() as network:
                return address is not None and address in network
            case str() as name:
                return name in ("*", host) or host.endswith(f".{name}")
            case place:
                return address == place


def proxy_variable(scheme: str, environ: Mapping[str, str]) -> str | None:
    """Give the variable that names the proxy for URLs of this scheme; None if no proxy is set.

    HTTPS_PROXY or HTTP_PROXY, else ALL_PROXY; lower-case names are preferred, as in other programs. A CGI program
    (REQUEST_METHOD is set) ignores HTTP_PROXY, because a client can set it with a `Proxy` header.
    """
    for name in (f"{scheme}_proxy".upper(), "ALL_PROXY"):
        variable = name.lower() if name.lower() in environ else name
        if variable == "HTTP_PROXY" and "REQUEST_METHOD" in environ:
            continue
        if environ.get(variable, "").strip():
            return variable
    return None


def proxy_exemptions(environ: Mapping[str, str]) -> list[ProxyExemption]:
    """Read NO_PROXY. An invalid entry exempts nothing."""
    found: list[ProxyExemption] = []
    for entry in re.split(r"[,\s]+", environ.get("no_proxy", environ.get("NO_PROXY", "")).lower()):
        if network := _network(entry):
            found.append(ProxyExemption(network, None))
        elif address := _address(entry):
            found.append(ProxyExemption(address, None))
        elif parts := _PORTED.fullmatch(entry):
            port = int(parts["port"]) if parts["port"] else None
            host = parts["six"] or parts["host"] or ""
            name = host if host == "*" else host.removeprefix("*").removeprefix(".").rstrip(".")
            if name:
                found.append(ProxyExemption(_address(name) or name, port))
    return found


def _address(text: str) -> IPv4Address | IPv6Address | None:
    try:
        return ip_address(text)
    except ValueError:
        return None


def _network(text: str) -> IPv4Network | IPv6Network | None:
    try:
        return ip_network(text, strict=False) if "/" in text else None
    except ValueError:
        return None
