import re
import tomllib
from collections.abc import Iterable, Iterator, Mapping
from datetime import UTC, datetime
from fnmatch import fnmatchcase
from pathlib import Path
from typing import Any, Final

import msgspec

from tokenferry.prices._price import RATES, Price, rates_of
from tokenferry.settings import PriceSettings

UNKNOWN: Final = Price(
    "", "", "", "unknown", rates_of({"input": 5, "output": 25, "cache_read": 5, "cache_write": 6.25})
)
"""The price assumed for a model without one, so that no model is free."""

_REGION: Final = re.compile(r"(?:us|eu|apac|global|au|jp|ca|us-gov)\.")
_VENDOR: Final = re.compile(r"[a-z0-9-]+[./](?=[a-z])")
_VERSION: Final = re.compile(r"-v\d+(?::\d+)?$")
_DATE: Final = re.compile(r"[-@](?:\d{8}|\d{4}-\d{2}-\d{2}|latest|default)$")
_CONTEXT: Final = re.compile(r"\[1m\]$")
_MOST_KNOWN: Final = 4096
_LATEST: Final = 4_102_444_800.0


class _Vendor(msgspec.Struct):
    url: str
    models: msgspec.Raw
    """Read when one is asked for: of 1,300 models a gateway serves few."""


class _Table(msgspec.Struct):
    dated: str
    source: str
    vendors: dict[str, _Vendor]


_table: Final = msgspec.json.Decoder(_Table)


class PriceTable:
    """Finds the price of a model at a time. Declared prices override the table's. It is not thread-safe.

    A model matches by its name, or by its name without date, region and vendor.
    """

    def __init__(self, urls: Mapping[str, str], overrides: Iterable[PriceSettings] = ()) -> None:
        """`urls` are the base URLs of the providers, by name."""
        self._urls = dict(urls)
        self._overrides = tuple(overrides)
        table = _table.decode(_read("table.json"))
        self.dated = table.dated
        self.source = table.source
        self._vendors = table.vendors
        self._models: dict[str, dict[str, Any]] = {}
        self._surcharges = tomllib.loads(_read("surcharges.toml"))
        self._names: dict[str, dict[str, str]] = {}
        self._known: dict[tuple[str, str], list[Price]] = {}
        self._recent: dict[tuple[object, ...], Price] = {}

    def price(self, provider: str, models: tuple[str | None, ...], at: float) -> Price:
        """Give the first model's price that there is, at a time in seconds since 1970 UTC; `UNKNOWN` without any."""
        key = (provider, models, int(at // 60))
        price = self._recent.get(key)
        if price is None:
            if len(self._recent) >= _MOST_KNOWN:  # clients may name any model
                self._recent.clear()
            price = self._recent[key] = self._price(
                provider, models, datetime.fromtimestamp(min(max(at, 0.0), _LATEST), UTC)
            )
        return price

    def _price(self, provider: str, models: Iterable[str | None], moment: datetime) -> Price:
        for model in dict.fromkeys(models):
            if model:
                found = [one for one in self._prices(provider, model) if _applies(one, moment)]
                if found:
                    return found[-1]
        return UNKNOWN

    def _prices(self, provider: str, model: str) -> list[Price]:
        """Give all prices of the model. The last one that applies counts."""
        known = self._known.get((provider, model))
        if known is None:
            listed = list(self._listed(provider, model))
            known = [*listed, *self._declared(provider, model, listed)]
            if len(self._known) >= _MOST_KNOWN:
                self._known.clear()
            self._known[provider, model] = known
        return known

    def _declared(self, provider: str, model: str, listed: list[Price]) -> Iterator[Price]:
        for one in sorted(self._overrides, key=lambda override: override.since):
            if one.provider not in (None, provider) or not any(
                fnmatchcase(name, one.model.lower()) for name in spellings(model)
            ):
                continue
            if one.input is not None:
                rates = rates_of({name: getattr(one, name) for name in RATES}, one.percent)
                yield Price(provider, model, one.since, "config.toml", rates, percents=self._percents(provider, model))
            else:
                yield from (_scaled(price, one) for price in listed)

    def _listed(self, provider: str, model: str) -> Iterator[Price]:
        vendor = self._vendor(provider)
        if vendor is None:
            return
        models = self._models.get(vendor)
        if models is None:
            models = self._models[vendor] = msgspec.json.decode(self._vendors[vendor].models)
        names = self._names.get(vendor)
        if names is None:
            names = self._names[vendor] = {
                name.lower(): one for one, entry in models.items() for name in (*entry.get("names", ()), one)
            }
        found = next((names[name] for name in spellings(model) if name in names), None)
        for entry in () if found is None else models[found]["prices"]:
            above = [(int(start), rates_of({**entry, **rates})) for start, rates in entry.get("above", {}).items()]
            yield Price(
                vendor,
                str(found),
                entry.get("from", ""),
                self.source,
                rates_of(entry),
                tuple(sorted(above, reverse=True)),
                entry.get("hours", ""),
                self._percents(provider, str(found)),
            )

    def _vendor(self, provider: str) -> str | None:
        url = self._urls.get(provider, "")
        return next((vendor for vendor, entry in self._vendors.items() if re.match(entry.url, url)), None)

    def _percents(self, provider: str, model: str) -> dict[tuple[str, str], int]:
        found: dict[tuple[str, str], int] = {}
        for one in self._surcharges.get(self._vendor(provider) or "", ()):
            if not one.get("models") or model in one["models"]:
                found.setdefault((one["field"], one["value"]), one["percent"])
        return found


def spellings(model: str) -> list[str]:
    """Give the name in lower case, then without the additions of clouds, routers and dates."""
    found = [model.lower()]
    for pattern in (_CONTEXT, _REGION, _VENDOR, _VERSION, _DATE):
        name = found[-1]
        match = pattern.match(name) if pattern in (_REGION, _VENDOR) else pattern.search(name)
        if match is not None:
            found.append(name[: match.start()] + name[match.end() :])
    return found


def _applies(price: Price, moment: datetime) -> bool:
    if price.since > f"{moment:%Y-%m-%d}":
        return False
    start, _, end = price.hours.partition("-")
    now = f"{moment:%H:%M}"
    return not start or (start <= now < end if start <= end else now >= start or now < end)


def _scaled(price: Price, override: PriceSettings) -> Price:
    def scale(rates: tuple[int, ...]) -> tuple[int, ...]:
        return tuple(round(rate * override.percent / 100) for rate in rates)

    return Price(
        price.vendor,
        price.model,
        max(price.since, override.since),
        "config.toml",
        scale(price.rates),
        tuple((start, scale(rates)) for start, rates in price.above),
        price.hours,
        price.percents,
    )


def _read(name: str) -> str:
    return Path(__file__).with_name(name).read_text("utf-8")
