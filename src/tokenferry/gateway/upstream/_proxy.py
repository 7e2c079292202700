import os
import re
from base64 import b64encode
from collections.abc import Mapping
from dataclasses import dataclass
from ipaddress import IPv4Address, IPv4Network, IPv6Address, IPv6Network, ip_address, ip_network
from typing import NamedTuple, Self
from urllib.parse import unquote_to_bytes, urlsplit

from tokenferry.errors import ConfigError
from tokenferry.gateway.upstream._origin import HOST_NAME, Origin
from tokenferry.providers import is_loopback
from tokenferry.secret import Fields, Secret

__all__ = ["Proxies", "Proxy", "parse_proxy"]

_PORTS = {"https": 443, "http": 80}
_PORTED = re.compile(r"(?:\[(?P<six>[^\]]*)\]|(?P<host>[^:]*))(?::(?P<port>[0-9]{1,5}))?")


@dataclass(frozen=True, slots=True)
class Proxy:
    """A proxy that opens tunnels by CONNECT (RFC 9110, 9.3.6), over TCP or, if `secure`, over TLS."""

    host: str
    port: int
    secure: bool = False
    authorization: Secret | None = None
    """User name and password as Basic encodes them (RFC 7617)."""

    def __str__(self) -> str:
        return f"[{self.host}]:{self.port}" if ":" in self.host else f"{self.host}:{self.port}"


def parse_proxy(text: str) -> Proxy | str:
    """Read a proxy's URL, or say what is wrong with it. Nothing is raised, so that no frame keeps a password."""
    if not text.isascii() or not text.isprintable() or " " in text or "\\" in text:
        return "must be printable ASCII without blanks; percent-encode other characters of a password"
    try:
        url = urlsplit(text if "://" in text else f"http://{text}")
        host, port = (url.hostname or ""), url.port
    except ValueError:
        return "has a malformed host or port; percent-encode the special characters of a password"
    if url.scheme not in _PORTS:
        return "must begin with http:// or https://; proxies of other kinds, SOCKS among them, are not spoken to"
    if url.path not in ("", "/") or url.query or url.fragment:
        return "must end with the port; percent-encode the special characters of a password"
    if port == 0 or url.netloc.endswith(":") or not (HOST_NAME.fullmatch(host) or _address(host)):
        return "has a malformed host or port"
    authorization = None
    if url.username or url.password:
        pair = b":".join(unquote_to_bytes(part or "") for part in (url.username, url.password))
        authorization = Secret(b64encode(pair).decode())
    return Proxy(host, port or _PORTS[url.scheme], url.scheme == "https", authorization)


class _Exemption(NamedTuple):
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


@dataclass(frozen=True, slots=True)
class Proxies:
    """The proxy for upstreams, if there is one, and which of them are reached without it."""

    variable: str = ""
    proxy: Proxy | str | None = None
    """In place of a malformed one: what is wrong with it."""
    exempt: tuple[_Exemption, ...] = ()

    @classmethod
    def from_environment(cls, environ: Mapping[str, str] | None = None) -> Self:
        """HTTPS_PROXY, else ALL_PROXY; NO_PROXY. In lower case they win, as they do everywhere."""
        environ = Fields(os.environ if environ is None else environ)  # whose repr shows no password
        exempt = tuple(_exemptions(environ.get("no_proxy", environ.get("NO_PROXY", ""))))
        for name in ("HTTPS_PROXY", "ALL_PROXY"):
            variable = name.lower() if name.lower() in environ else name
            if environ.get(variable, "").strip():
                return cls(variable, parse_proxy(environ[variable].strip()), exempt)
        return cls()

    def of(self, origin: Origin) -> Proxy | None:
        """Raise `ConfigError` if the origin would need a proxy whose URL is malformed; the URL isn't quoted."""
        if self.proxy is None or not origin.secure or is_loopback(origin.host):
            return None
        if any(exemption.covers(origin.host, origin.port) for exemption in self.exempt):
            return None
        if isinstance(self.proxy, str):
            raise ConfigError(
                f"{self.variable} {self.proxy}; correct it, or put {origin.host} into NO_PROXY to reach it directly"
            )
        return self.proxy


def _exemptions(text: str) -> list[_Exemption]:
    """Read NO_PROXY. What can't be read exempts nothing."""
    found: list[_Exemption] = []
    for entry in re.split(r"[,\s]+", text.lower()):
        if network := _network(entry):
            found.append(_Exemption(network, None))
        elif address := _address(entry):
            found.append(_Exemption(address, None))
        elif parts := _PORTED.fullmatch(entry):
            port = int(parts["port"]) if parts["port"] else None
            host = parts["six"] or parts["host"] or ""
            name = host if host == "*" else host.removeprefix("*").removeprefix(".").rstrip(".")
            if name:
                found.append(_Exemption(_address(name) or name, port))
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
