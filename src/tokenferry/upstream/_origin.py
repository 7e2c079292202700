import ipaddress
import re
from typing import NamedTuple
from urllib.parse import urlsplit

from tokenferry.errors import ConfigError

__all__ = ["HOST_NAME", "Origin", "parse_origin"]

_PORTS = {"https": 443, "http": 80}
HOST_NAME = re.compile(r"(?:[a-z0-9_](?:[a-z0-9_-]{0,61}[a-z0-9_])?\.)*[a-z0-9_](?:[a-z0-9_-]{0,61}[a-z0-9_])?")
_NUMBER = re.compile(r"[0-9]+|0x[0-9a-f]*")
_PATH = re.compile(r"(?:/[A-Za-z0-9._~!$&'()*+,;=:@%-]+)*")
# Metadata services that are not link-local.
_METADATA = frozenset(map(ipaddress.ip_address, ("100.100.100.200", "fd00:ec2::254")))


class Origin(NamedTuple):
    """An upstream's address. `authority` is its `Host` header; `prefix` precedes every request target."""

    scheme: str
    host: str
    port: int
    authority: str
    prefix: bytes

    @property
    def secure(self) -> bool:
        return self.scheme == "https"

    def __str__(self) -> str:
        return f"{self.scheme}://{self.authority}{self.prefix.decode()}"


def parse_origin(text: str) -> Origin:
    """Parse an upstream's base URL: https, or http on loopback, with host, port and an optional path prefix.

    Raises `ConfigError`, without quoting the URL, which may hold a password.
    """
    if not text.isascii() or not text.isprintable() or " " in text or "\\" in text:
        raise ConfigError("An upstream's URL must be printable ASCII without blanks; write other names in punycode")
    try:
        url = urlsplit(text)
        host, port = (url.hostname or ""), url.port
    except ValueError as error:
        raise ConfigError("An upstream's URL has a malformed host or port") from error
    if url.scheme not in _PORTS:
        raise ConfigError("An upstream's URL must begin with https:// (or http:// for loopback)")
    if "@" in url.netloc:
        raise ConfigError("An upstream's URL must not hold a user name or a password; add a credential instead")
    if "?" in text or "#" in text:
        raise ConfigError(f"The URL of upstream {host} must not have a query or a fragment")
    if port == 0 or url.netloc.endswith(":"):
        raise ConfigError(f"The URL of upstream {host} has a malformed port")
    loopback = _check_host(host)
    if url.scheme == "http" and not loopback:
        raise ConfigError(f"Upstream {host} must be reached by https: plain http would expose credentials")
    prefix = url.path.rstrip("/")
    if not _PATH.fullmatch(prefix) or {".", ".."} & set(prefix.split("/")):
        raise ConfigError(f"The URL of upstream {host} has a malformed path")
    shown = f"[{host}]" if ":" in host else host
    default = _PORTS[url.scheme]
    authority = shown if port in (None, default) else f"{shown}:{port}"
    return Origin(url.scheme, host, port or default, authority, prefix.encode())


def _check_host(host: str) -> bool:
    """Give whether the host is loopback. Raises `ConfigError` for a host that is not allowed."""
    try:
        address = ipaddress.ip_address(host)
    except ValueError:
        # The resolver reads "127.1" and "0x7f000001" as addresses, which would bypass these checks.
        if not HOST_NAME.fullmatch(host) or _NUMBER.fullmatch(host.rpartition(".")[2]):
            raise ConfigError("An upstream's URL must name a host: a DNS name or a full IP address") from None
        return host == "localhost"
    if isinstance(address, ipaddress.IPv6Address) and address.ipv4_mapped:
        address = address.ipv4_mapped
    if address.is_link_local or address.is_multicast or address.is_unspecified or address in _METADATA:
        raise ConfigError(f"{host} can't be an upstream: link-local, metadata and multicast addresses are refused")
    return address.is_loopback
