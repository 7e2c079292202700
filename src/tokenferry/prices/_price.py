from collections.abc import Mapping
from decimal import Decimal
from types import MappingProxyType
from typing import Final, NamedTuple

from msgspec import Struct

_MILLION: Final = 1_000_000
_PER_CENT: Final = 100
RATES: Final = ("input", "output", "cache_read", "cache_write", "cache_write_1h", "web_search")
"""The names of rates: dollars per million tokens of each kind, or per thousand searches."""


class TokenCounts(NamedTuple):
    """The billed counts of a request. Input excludes what the cache read and wrote."""

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
    """The price of a model since a date."""

    vendor: str
    model: str
    since: str
    """An ISO date; empty for the first price."""
    source: str
    """`config.toml`, the package and version that the table was made from, or `unknown`."""
    rates: tuple[int, ...]
    """In the order of `TokenCounts`: micro-dollars per million tokens, or per million searches."""
    above: tuple[tuple[int, tuple[int, ...]], ...] = ()
    """The rates of requests with more input tokens than a threshold; the largest threshold first."""
    hours: str = ""
    """The hours of the day in which it applies, `00:30-16:30` UTC; empty for all."""
    percents: Mapping[tuple[str, str], int] = MappingProxyType({})
    """Percentages of the price of tokens, by a field of the upstream's usage: `("speed", "fast")`."""

    @property
    def is_known(self) -> bool:
        """Whether it is the model's own price, not the one assumed for unknown models."""
        return self.source != "unknown"

    def cost(self, counts: TokenCounts, *traits: tuple[str, str]) -> int:
        """Give the cost in micro-dollars, rounded once. `traits` are fields of the usage: `("speed", "fast")`."""
        rates = self.rates
        if self.above:
            rates = next((rates for start, rates in self.above if counts.prompt > start), rates)
        # Unrolled, since it runs for every request.
        plain, output, read, five, hour, searches = counts
        of_plain, of_output, of_read, of_five, of_hour, of_search = rates
        total = plain * of_plain + output * of_output + read * of_read + five * of_five + hour * of_hour
        scale = _MILLION
        for one in traits:
            if (percent := self.percents.get(one)) is not None:
                total, scale = total * percent, scale * _PER_CENT
        if searches:
            total += searches * of_search * (scale // _MILLION)
        return (total + scale // 2) // scale


def rates_of(declared: Mapping[str, object], percent: float = _PER_CENT) -> tuple[int, ...]:
    """Give the rates of a declaration. Missing cache rates default to the input's, or to a multiple of a stated one."""
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
