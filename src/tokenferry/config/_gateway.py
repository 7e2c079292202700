from collections.abc import Mapping
from pathlib import Path
from typing import Final

from tokenferry.config._files import file_of, is_there
from tokenferry.config._server import ServerTimeouts
from tokenferry.providers import Provider, Table
from tokenferry.settings import GatewaySettings

_CONNECTIONS: Final = 65_536
_DAY: Final = 86_400.0


def read_gateway(
    table: Table, folder: Path, providers: Mapping[str, Provider], timeouts: ServerTimeouts
) -> GatewaySettings:
    ca_file = file_of(table, "ca_file", folder)
    if ca_file is not None and not is_there(ca_file):
        table.problem("ca_file", "must be the path of a file of certificates in PEM that is there")
    connections = table.number("max_connections", 0, least=0, most=_CONNECTIONS)
    if connections != int(connections):
        table.problem("max_connections", "must be a whole number")
    settings = GatewaySettings(
        account=table.text("account"),
        providers=table.texts("providers", ()),
        ca_file=ca_file,
        max_connections=int(connections) or None,
        connect_timeout=_timeout(table, "connect_timeout", timeouts.connect, "connect_timeout_ms"),
        answer_timeout=_timeout(table, "answer_timeout", timeouts.api, "api_timeout_ms"),
    )
    for name in settings.providers:
        if name not in providers:
            table.problem("providers", f"names {name!r}, which is no provider; known: {', '.join(providers)}")
    table.done()
    return settings


def _timeout(table: Table, key: str, foreign: float | None, name: str) -> float | None:
    if key not in table:
        return foreign
    if foreign is not None:
        table.problem(key, f"and {name} of [server.timeouts] say the same thing; keep one of them")
    return table.number(key, 1, least=0.1, most=_DAY)
