from collections.abc import Mapping
from pathlib import Path
from typing import Final

from tokenferry.config._files import file_of, is_there
from tokenferry.providers import Provider, Table
from tokenferry.settings import GatewaySettings

_CONNECTIONS: Final = 65_536


def read_gateway(table: Table, folder: Path, providers: Mapping[str, Provider]) -> GatewaySettings:
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
    )
    for name in settings.providers:
        if name not in providers:
            table.problem("providers", f"names {name!r}, which is no provider; known: {', '.join(providers)}")
    table.done()
    return settings
