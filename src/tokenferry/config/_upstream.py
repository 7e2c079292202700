from typing import Any, Final

from tokenferry.config._files import is_there
from tokenferry.providers import Table
from tokenferry.settings import UpstreamSettings

_MUX_TIMEOUTS: Final = {"connect_timeout_ms": "connect_timeout", "api_timeout_ms": "response_timeout"}


def read_upstream(table: Table, timeouts: Table) -> UpstreamSettings:
    """Read `[upstream]`, and `[server.timeouts]`, where claude-code-mux has two of its keys in milliseconds."""
    for former, key in _MUX_TIMEOUTS.items():
        table.former(timeouts, former, key, _seconds)
    settings = table.read(UpstreamSettings())
    if settings.ca_file is not None and not is_there(settings.ca_file):
        table.problem("ca_file", "must be the path of a file of certificates in PEM that is there")
    timeouts.done()
    table.done()
    return settings


def _seconds(milliseconds: Any) -> Any:
    is_number = isinstance(milliseconds, int) and not isinstance(milliseconds, bool)
    return milliseconds / 1000 if is_number else None
