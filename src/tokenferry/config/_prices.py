from collections.abc import Iterable, Mapping
from datetime import date
from typing import Final

from msgspec.structs import replace

from tokenferry.config_key import ConfigKey
from tokenferry.providers import Provider, Table
from tokenferry.settings import PriceSettings

SINCE: Final = ConfigKey("The day from which it holds, UTC.", example='"2026-09-01"', name="from")
_RATES: Final = ("input", "output", "cache_read", "cache_write", "cache_write_1h", "web_search")


def read_prices(tables: Iterable[Table], providers: Mapping[str, Provider]) -> tuple[PriceSettings, ...]:
    """Read `[[prices]]`, in the order in which they are written."""
    return tuple(_price(table, providers) for table in tables)


def _price(table: Table, providers: Mapping[str, Provider]) -> PriceSettings:
    price = table.read(PriceSettings(""))
    if "model" not in table:
        table.problem("model", "is missing")
    if price.provider is not None and price.provider not in providers:
        table.problem("provider", f"names {price.provider!r}, which is not a provider; known: {', '.join(providers)}")
    given = [name for name in _RATES if getattr(price, name) is not None]
    for name in ("input", "output") if given else ():
        if name not in given:
            table.problem(name, f"is missing beside {given[0]}; give both, or a percent alone")
    since = table.get(SINCE, None) or ""
    try:
        since = str(date.fromisoformat(since)) if since else ""
    except ValueError:
        table.problem(SINCE.name, 'must be a date, as in "2026-09-01"')
    table.done()
    return replace(price, since=since)
