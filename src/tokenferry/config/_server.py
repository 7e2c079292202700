import re
from ipaddress import ip_address, ip_network
from pathlib import Path
from typing import Final, NamedTuple

from tokenferry.config._files import file_of, is_there
from tokenferry.config._foreign import ignore
from tokenferry.providers import Table
from tokenferry.settings import LONGEST_DRAIN, MOST_WORKERS, ServerSettings

_UNIX: Final = "unix"
_PORTS: Final = 65_535
_DAY_MS: Final = 86_400_000
_LEVELS: Final = ("debug", "info", "warning", "error")
_HOST: Final = re.compile(r"[A-Za-z0-9_.:%\[\]-]+")
# What clients write into Host: a name, an address, an IPv6 one in brackets; no scheme, path or pattern.
_HOST_HEADER: Final = re.compile(
    r"(?P<host>\[[0-9A-Fa-f:.]+\]|[A-Za-z0-9_](?:[A-Za-z0-9_.-]{0,251}[A-Za-z0-9_.])?)(?::(?P<port>[0-9]{1,5}))?"
)
_IPV6: Final = 6
_RUST_LEVELS: Final = {"trace": "debug", "warn": "warning"}


class ServerTimeouts(NamedTuple):
    """What `[server.timeouts]` says, in seconds; None where it says nothing."""

    connect: float | None = None
    api: float | None = None


def read_server(table: Table, folder: Path, notes: list[str]) -> tuple[ServerSettings, ServerTimeouts]:
    """Read `[server]`, and the time-outs of upstreams that claude-code-mux keeps there."""
    default = ServerSettings()
    port = table.number("port", default.port, least=0, most=_PORTS)
    if port != int(port):
        table.problem("port", "must be a whole number")
    workers = table.number("workers", default.workers, least=1, most=MOST_WORKERS)
    if workers != int(workers):
        table.problem("workers", "must be a whole number")
    uds = file_of(table, "uds", folder)
    certificate, key = file_of(table, "tls_cert", folder), file_of(table, "tls_key", folder)
    if (certificate is None) != (key is None):
        table.problem("tls_cert", "and tls_key must be set together")
    for name, file in (("tls_cert", certificate), ("tls_key", key)):
        if file is not None and not is_there(file):
            notes.append(f"server.{name}: {file} is not there, so no gateway will start")
    host = table.text("host", default.host) or default.host
    if not _HOST.fullmatch(host):
        table.problem("host", "must be an address or a name of this machine")
    settings = ServerSettings(
        host=host,
        port=int(port),
        log_level=table.choice("log_level", default.log_level, _LEVELS, _RUST_LEVELS),
        log_format=table.choice("log_format", default.log_format, ("text", "json")),
        allowed_hosts=_allowed_hosts(table),
        allow_remote=table.flag("allow_remote", default.allow_remote),
        trusted_proxies=_proxies(table),
        uds=uds,
        tcp=uds is None or "host" in table or "port" in table,
        tls_cert=certificate,
        tls_key=key,
        workers=int(workers),
        drain=table.number("drain", default.drain, least=0, most=LONGEST_DRAIN),
    )
    timeouts = _timeouts(table.table("timeouts"))
    ignore(table, ("api_key",), notes, instead="make keys for clients with: tokenferry key create NAME")
    ignore(table, ("public_url",), notes)
    table.done()
    return settings, timeouts


def _allowed_hosts(table: Table) -> tuple[str, ...]:
    names: tuple[str, ...] = table.texts("allowed_hosts", ())
    for name in names:
        found = _HOST_HEADER.fullmatch(name)
        if found is None or not _names_a_host(found["host"]) or int(found["port"] or 0) > _PORTS:
            table.problem(
                "allowed_hosts", f"names {name!r}, which no Host header can be; write NAME, NAME:PORT or [IPV6]:PORT"
            )
    return names


def _names_a_host(name: str) -> bool:
    try:
        return bool(ip_address(name[1:-1]).version == _IPV6) if name.startswith("[") else True
    except ValueError:
        return False


def _proxies(table: Table) -> tuple[str, ...]:
    names: tuple[str, ...] = table.texts("trusted_proxies", ())
    for name in names:
        try:
            _ = None if name == _UNIX else ip_network(name)
        except ValueError:
            table.problem("trusted_proxies", f"names {name!r}, which is no address, no network and not {_UNIX!r}")
    return names


def _timeouts(table: Table) -> ServerTimeouts:
    """`[server.timeouts]`, in milliseconds there and in seconds here."""
    found = {}
    for key in ServerTimeouts._fields:
        milliseconds = table.whole(f"{key}_timeout_ms", None, least=1, most=_DAY_MS)
        found[key] = None if milliseconds is None else milliseconds / 1000
    table.done()
    return ServerTimeouts(**found)
