import os
import re
from ipaddress import ip_address, ip_network
from typing import Final

from msgspec.structs import replace

from tokenferry.config._files import is_there
from tokenferry.config._foreign import ignore
from tokenferry.providers import Table
from tokenferry.settings import LONGEST_SOCKET, LogSettings, ServerSettings

_UNIX: Final = "unix"
_PORTS: Final = 65_535
_HOST: Final = re.compile(r"[A-Za-z0-9_.:%\[\]-]+")
# What clients write into Host: a name, an address, an IPv6 one in brackets; no scheme, path or pattern.
_HOST_HEADER: Final = re.compile(
    r"(?P<host>\[[0-9A-Fa-f:.]+\]|[A-Za-z0-9_](?:[A-Za-z0-9_.-]{0,251}[A-Za-z0-9_.])?)(?::(?P<port>[0-9]{1,5}))?"
)
_PUBLIC_URL: Final = re.compile(r"(?i:https?://)(?:\[[0-9A-Fa-f:.]+\]|[A-Za-z0-9_.-]{1,253})(?::[0-9]{1,5})?/?")
_IPV6: Final = 6


def read_server(table: Table) -> ServerSettings:
    """Read `[server]` except `log_level` and `timeouts`, which claude-code-mux has there."""
    settings = table.read(ServerSettings())
    if (settings.tls_cert is None) != (settings.tls_key is None):
        table.problem("tls_cert", "and tls_key must be set together")
    for name, file in (("tls_cert", settings.tls_cert), ("tls_key", settings.tls_key)):
        if file is not None and not is_there(file):
            table.note(name, f"is {file}, which does not exist, so no gateway will start")
    if settings.uds is not None and len(os.fsencode(settings.uds)) > LONGEST_SOCKET:
        table.note("uds", f"is longer than {LONGEST_SOCKET} bytes, so no gateway will start; choose a shorter path")
    if not _HOST.fullmatch(settings.host):
        table.problem("host", "must be an address or a name of this machine")
    _check_allowed_hosts(table, settings.allowed_hosts)
    _check_proxies(table, settings.trusted_proxies)
    if settings.public_url is not None and not _PUBLIC_URL.fullmatch(settings.public_url):
        table.problem("public_url", "must be an address without a path, such as https://gateway.example")
    ignore(table, ("api_key",), instead="make keys for clients with: tokenferry key create NAME")
    table.done()
    public_url = None if settings.public_url is None else settings.public_url.rstrip("/").lower()
    return replace(settings, public_url=public_url, tcp=settings.uds is None or "host" in table or "port" in table)


def read_log(table: Table) -> LogSettings:
    settings = table.read(LogSettings())
    if settings.file is not None and not is_there(settings.file.parent):
        table.note("file", f"is {settings.file}, whose folder is not there, so no gateway will start")
    table.done()
    return settings


def _check_allowed_hosts(table: Table, names: tuple[str, ...]) -> None:
    for name in names:
        found = _HOST_HEADER.fullmatch(name)
        if found is None or not _names_a_host(found["host"]) or int(found["port"] or 0) > _PORTS:
            table.problem(
                "allowed_hosts", f"names {name!r}, which no Host header can be; write NAME, NAME:PORT or [IPV6]:PORT"
            )


def _names_a_host(name: str) -> bool:
    try:
        return bool(ip_address(name[1:-1]).version == _IPV6) if name.startswith("[") else True
    except ValueError:
        return False


def _check_proxies(table: Table, names: tuple[str, ...]) -> None:
    for name in names:
        try:
            _ = None if name == _UNIX else ip_network(name)
        except ValueError:
            table.problem("trusted_proxies", f"names {name!r}, which is neither an address, a network nor {_UNIX!r}")
