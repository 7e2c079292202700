from datetime import datetime, timedelta

from msgspec import Struct

from tokenferry.ledger import Period, TrafficFilter, TrafficRow, Usage, total
from tokenferry.state import ClientKey
from tokenferry.views._books import LedgerReader

_DAY_MS = 86_400_000
_ROWS = 20


class OwnUsage(Struct, frozen=True):
    """The usage of one client key."""

    key: ClientKey
    today: Usage
    """Since midnight, by this machine's clock."""
    month: Usage
    """Within the last 30 days."""
    rows: tuple[TrafficRow, ...] = ()
    """The latest requests."""


def own_usage(books: LedgerReader, key: ClientKey, *, now: float) -> OwnUsage:
    """Read one key's usage; `now` in seconds since 1970 UTC. Raises what reading the ledger raises."""
    usage, traffic = books.usage(), books.traffic()
    if usage is None or traffic is None:
        return OwnUsage(key, Usage(), Usage())
    midnight = datetime.fromtimestamp(now).replace(hour=0, minute=0, second=0, microsecond=0)  # noqa: DTZ006  # this machine's day is meant
    end = int(now * 1000) + 1
    starts = (midnight, midnight - timedelta(days=29))
    today, month = (
        total(usage.rows([Period("", int(start.timestamp() * 1000), end)], where={"key": key.id})) for start in starts
    )
    rows = traffic.page(TrafficFilter(end - 30 * _DAY_MS, end, key=key.id), count=_ROWS).rows
    return OwnUsage(key, today, month, rows)
