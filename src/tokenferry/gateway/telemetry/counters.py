from bisect import bisect_left
from collections import Counter
from typing import Final, TypeAlias

from tokenferry.gateway.telemetry.record import RequestRecord
from tokenferry.limits import OTHER, model_family
from tokenferry.streaming import TokenUsage

BUCKETS: Final = (0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0, 30.0, 60.0, 120.0, 300.0, 600.0)
"""Upper bounds in seconds; a further bucket has the rest."""
TOKENS: Final = ("input", "output", "cache_write_5m", "cache_write_1h", "cache_read")
_OK: Final = range(200, 300)
_MOST_ERRORS: Final = 256
_MOST_FAMILIES: Final = 32
_MOST_KEYS: Final = 100

Route: TypeAlias = tuple[str, str, str]
"""Provider, account and model family; empty for a request that reached none."""


class Histogram:
    """The distribution of durations in seconds."""

    __slots__ = ("counts", "sum")

    def __init__(self) -> None:
        self.counts = [0] * (len(BUCKETS) + 1)
        self.sum = 0.0

    def add(self, seconds: float) -> None:
        self.counts[bisect_left(BUCKETS, seconds)] += 1
        self.sum += seconds


class RouteCounters:
    """Counts for one route: requests by status, durations, and tokens in the order of `TOKENS`."""

    __slots__ = ("durations", "first_bytes", "statuses", "tokens")

    def __init__(self) -> None:
        self.statuses: dict[int, int] = {}
        self.durations = Histogram()
        self.first_bytes = Histogram()
        self.tokens = [0] * len(TOKENS)


class KeyCounters:
    """Counts for one client key: requests, and tokens in the order of `TOKENS`."""

    __slots__ = ("requests", "tokens")

    def __init__(self) -> None:
        self.requests = 0
        self.tokens = [0] * len(TOKENS)


class ModelLabels:
    """The model families for labels: a bounded number, only of models that an upstream has served."""

    def __init__(self) -> None:
        self._names: dict[str, str] = {}
        self._known: set[str] = set()

    def of(self, model: str | None, *, is_served: bool) -> str:
        """Give the model's family, or `other`. Adds a family only if an upstream has served it."""
        if model is None:
            return ""
        known = self._names.get(model)
        if known is not None:
            return known
        found = model_family(model)
        if found not in self._known:
            if not is_served or len(self._known) >= _MOST_FAMILIES:
                return OTHER
            self._known.add(found)
        if is_served and len(self._names) < _MOST_FAMILIES * _MOST_FAMILIES:
            self._names[model] = found
        return found


class RequestCounters:
    """Counts served requests, with a few look-ups per request."""

    def __init__(self) -> None:
        self.routes: dict[Route, RouteCounters] = {}
        self.errors: Counter[tuple[str, str]] = Counter()
        """By provider and kind."""
        self.keys: dict[str, KeyCounters] = {}
        """By client key. After 100, further keys are counted as `other`."""
        self.counts_keys = False
        self.bytes_in = 0
        self.bytes_out = 0
        self.families = ModelLabels()

    def add(self, record: RequestRecord) -> None:
        """Count an ended request."""
        family = self.families.of(record.model, is_served=record.upstream_status in _OK)
        route = (record.provider or "", record.account or "", family)
        series = self.routes.get(route)
        if series is None:
            series = self.routes[route] = RouteCounters()
        series.statuses[record.status] = series.statuses.get(record.status, 0) + 1
        series.durations.add(record.duration)
        if record.first_byte is not None:
            series.first_bytes.add(record.first_byte)
        usage = record.usage
        if usage.output is not None or usage.input is not None:
            _add(series.tokens, usage)
        if self.counts_keys and record.client is not None:
            self._add_to_key(record.client, usage)
        if record.error is not None:
            self._count_error(route[0], record.error)
        self.bytes_in += record.bytes_in
        self.bytes_out += record.bytes_out

    def _add_to_key(self, name: str, usage: TokenUsage) -> None:
        if name not in self.keys and len(self.keys) >= _MOST_KEYS:
            name = OTHER
        counters = self.keys.get(name)
        if counters is None:
            counters = self.keys[name] = KeyCounters()
        counters.requests += 1
        _add(counters.tokens, usage)

    def _count_error(self, provider: str, error: str) -> None:
        if (provider, error) not in self.errors and len(self.errors) >= _MOST_ERRORS:
            error = OTHER
        self.errors[provider, error] += 1


def _add(tokens: list[int], usage: TokenUsage) -> None:
    hour = usage.cache_creation_1h or 0
    tokens[0] += usage.input or 0
    tokens[1] += usage.output or 0
    tokens[2] += max((usage.cache_creation or 0) - hour, 0)
    tokens[3] += hour
    tokens[4] += usage.cache_read or 0
