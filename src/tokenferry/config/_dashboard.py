import re
from typing import Final

from msgspec.structs import replace

from tokenferry.providers import Table
from tokenferry.settings import DashboardSettings

_HEADER: Final = re.compile(r"[A-Za-z0-9-]{1,64}")


def read_dashboard(table: Table) -> DashboardSettings:
    """Read `[dashboard]`."""
    settings = table.read(DashboardSettings())
    header = settings.user_header
    if header is not None and not _HEADER.fullmatch(header):
        table.problem("user_header", "must be the name of a header, such as x-forwarded-user")
    table.done()
    return replace(settings, user_header=header and header.lower())
