from pathlib import Path
from typing import Final

from tokenferry.config._files import file_of
from tokenferry.providers import Table
from tokenferry.settings import LONGEST_DRAIN, MOST_WORKERS, ServerSettings

_PORTS: Final = 65_535


def read_server(table: Table, folder: Path) -> ServerSettings:
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
    settings = ServerSettings(
        host=table.text("host", default.host) or default.host,
        port=int(port),
        log_level=table.choice("log_level", default.log_level, ("debug", "info", "warning", "error")),
        log_format=table.choice("log_format", default.log_format, ("text", "json")),
        allowed_hosts=table.texts("allowed_hosts", default.allowed_hosts),
        uds=uds,
        tcp=uds is None or "host" in table or "port" in table,
        tls_cert=certificate,
        tls_key=key,
        workers=int(workers),
        drain=table.number("drain", default.drain, least=0, most=LONGEST_DRAIN),
    )
    table.done()
    return settings
