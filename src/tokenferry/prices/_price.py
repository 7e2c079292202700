from collections.abc import Mapping
from decimal import Decimal
from types import MappingProxyType
from typing import Final, NamedTuple

from msgspec import Struct

_MILLION: Final = 1_000_000
_PER_CENT: Final = 100
RATES: Final = ("input", "output", "cache_read", "cache_write", "cache_write_1h", "web_search")
"""Dollars for a million tokens of each kind, or for a thousand searches."""


class TokenCounts(NamedTuple):
    """What is billed of a request. Input is without what the cache read and wrote."""

    input: int = 0
    output: int = 0
    cache_read: int = 0
    cache_write_5m: int = 0
    cache_write_1h: int = 0
    web_searches: int = 0

    @property
    def prompt(self) -> int:
        """All input, which decides the tier."""
        return self.input + self.cache_read + self.cache_write_5m + self.cache_write_1h


class Price(Struct, frozen=True):
    """The price of one model from one day on."""

    vendor: str
    model: str
    since: str
    """An ISO date; empty for one that holds from the beginning."""
    source: str
    """`config.toml`, the package and version that the table was made from, or `unknown`."""
    rates: tuple[int, ...]
    """In the order of `TokenCounts`: micro-dollars for a million tokens, or a million searches."""
    above: tuple[tuple[int, tuple[int, ...]], ...] = ()
    """Other rates, of requests whose input is larger than so many tokens; the largest first."""
    hours: str = ""
    """The hours of the day that it holds in, `00:30-16:30` UTC; empty for all."""
    percents: Mapping[tuple[str, str], int] = MappingProxyType({})
    """Factors on the price of tokens, by what the upstream says of a request: `("speed", "fast")`."""

    @property
    def is_known(self) -> bool:
        """Whether it is the price of this model, and not what an unknown one counts as."""
        return self.source != "unknown"

    def cost(self, counts: TokenCounts, *said: tuple[str, str]) -> int:
        """Micro-dollars, rounded once. `said` is what the upstream said of the request: `("speed", "fast")`."""
        rates = self.rates
        if self.above:
            rates = next((rates for start, rates in self.above if counts.prompt > start), rates)
        # Written out: once for every request.
        plain, output, read, five, hour, searches = counts
        of_plain, of_output, of_read, of_five, of_hour, of_search = rates
        total = plain * of_plain + output * of_output + read * of_read + five * of_five + hour * of_hour
        scale = _MILLION
        for one in said:
            if (percent := self.percents.get(one)) is not None:
                total, scale = total * percent, scale * _PER_CENT
        if searches:
            total += searches * of_search * (scale // _MILLION)
        return (total + scale // 2) // scale


def rates_of(declared: Mapping[str, object], percent: float = _PER_CENT) -> tuple[int, ...]:
    """The rates of a declaration. What it leaves out of the cache costs as much as what it does say."""
    given = {name: _micros(declared[name], percent) for name in RATES if declared.get(name) is not None}
    plain = given["input"]
    written = given.get("cache_write", plain)
    return (
        plain,
        given["output"],
        given.get("cache_read", plain),
        written,
        given.get("cache_write_1h", max(written, 2 * plain) if "cache_write" in given else plain),
        given.get("web_search", 0) * 1000,
    )


def _micros(dollars: object, percent: float) -> int:
    exact = Decimal(str(dollars)) * _MILLION * Decimal(str(percent)) / _PER_CENT
    return int(exact.to_integral_value())
