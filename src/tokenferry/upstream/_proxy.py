import os
from base64 import b64encode
from collections.abc import Mapping
from ipaddress import IPv4Address, IPv6Address, ip_address
from typing import Self
from urllib.parse import unquote_to_bytes, urlsplit

from msgspec import Struct

from tokenferry.errors import ConfigError
from tokenferry.providers import ProxyExemption, is_loopback, proxy_exemptions, proxy_variable
from tokenferry.secret import Fields, Secret
from tokenferry.upstream._origin import HOST_NAME, Origin

__all__ = ["Proxies", "Proxy", "parse_proxy"]

_PORTS = {"https": 443, "http": 80}


class Proxy(Struct, frozen=True):
    """A proxy that opens tunnels by CONNECT (RFC 9110, 9.3.6), over TCP or, if `secure`, over TLS."""

    host: str
    port: int
    secure: bool = False
    authorization: Secret | None = None
    """User name and password in Basic encoding (RFC 7617)."""

    def __str__(self) -> str:
        return f"[{self.host}]:{self.port}" if ":" in self.host else f"{self.host}:{self.port}"


def parse_proxy(text: str) -> Proxy | str:
    """Parse a proxy's URL, or say what is wrong with it. It never raises, so that no traceback holds a password."""
    if not text.isascii() or not text.isprintable() or " " in text or "\\" in text:
        return "must be printable ASCII without blanks; percent-encode other characters of a password"
    try:
        url = urlsplit(text if "://" in text else f"http://{text}")
        host, port = (url.hostname or ""), url.port
    except ValueError:
        return "has a malformed host or port; percent-encode the special characters of a password"
    if url.scheme not in _PORTS:
        return "must begin with http:// or https://; other proxies, such as SOCKS, are not supported"
    if url.path not in ("", "/") or url.query or url.fragment:
        return "must end with the port; percent-encode the special characters of a password"
    if port == 0 or url.netloc.endswith(":") or not (HOST_NAME.fullmatch(host) or _address(host)):
        return "has a malformed host or port"
    authorization = None
    if url.username or url.password:
        pair = b":".join(unquote_to_bytes(part or "") for part in (url.username, url.password))
        authorization = Secret(b64encode(pair).decode())
    return Proxy(host, port or _PORTS[url.scheme], url.scheme == "https", authorization)


class Proxies(Struct, frozen=True):
    """The proxy for upstreams, if any, and the hosts that are reached without it."""

    variable: str = ""
    proxy: Proxy | str | None = None
    """The proxy; for a malformed URL, what is wrong with it."""
    exempt: tuple[ProxyExemption, ...] = ()

    @classmethod
    def from_environment(cls, environ: Mapping[str, str] | None = None) -> Self:
        """Read HTTPS_PROXY or else ALL_PROXY, and NO_PROXY. The lower-case variables win."""
        environ = Fields(os.environ if environ is None else environ)  # its repr shows no password
        variable = proxy_variable("https", environ)
        if variable is None:
            return cls()
        return cls(variable, parse_proxy(environ[variable].strip()), tuple(proxy_exemptions(environ)))

    def of(self, origin: Origin) -> Proxy | None:
        """Give the origin's proxy. Raises `ConfigError`, without quoting the URL, if the proxy's is malformed."""
        if self.proxy is None or not origin.secure or is_loopback(origin.host):
            return None
        if any(exemption.covers(origin.host, origin.port) for exemption in self.exempt):
            return None
        if isinstance(self.proxy, str):
            raise ConfigError(
                f"{self.variable} {self.proxy}; correct it, or put {origin.host} into NO_PROXY to reach it directly"
            )
        return self.proxy


def _address(text: str) -> IPv4Address | IPv6Address | None:
    try:
        return ip_address(text)
    except ValueError:
        return None
