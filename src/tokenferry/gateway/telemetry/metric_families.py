"""Makes the gateway's metric families from the numbers of its parts."""

from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from typing import Final

from msgspec import Struct

from tokenferry.gateway.telemetry.counters import TOKENS, ModelLabels, RequestCounters
from tokenferry.gateway.telemetry.exposition import MetricFamily, Rows, counter, gauge, histogram
from tokenferry.ledger import BudgetState, CostCounters, LedgerStatistics
from tokenferry.limits import LimitState
from tokenferry.upstream import UpstreamStatistics

_ROUTE: Final = ("provider", "account", "model")
_BUDGET: Final = ("subject", "unit", "period", "key")
_RATE_REFUSALS: Final = {"key_rate_limited": "client", "at_capacity": "upstream"}
_MOST_KEYS: Final = 100
_MICROS: Final = 1_000_000


class GatewayStatistics(Struct, frozen=True):
    """Numbers of a gateway. `held_bytes` is the memory of request bodies."""

    in_flight: int = 0
    streams: int = 0
    waiting: int = 0
    served: int = 0
    held_bytes: int = 0
    log_lines_dropped: int = 0


def of_requests(tally: RequestCounters) -> Iterator[MetricFamily]:
    routes = tally.routes.items()
    yield counter(
        "tokenferry_requests",
        "Requests by the status that the client got; 499 for clients that disconnected.",
        (*_ROUTE, "status"),
        [([*route, str(status)], n) for route, series in routes for status, n in series.statuses.items()],
    )
    yield counter(
        "tokenferry_errors",
        "Requests that ended in an error, the gateway's own or the upstream's.",
        ("provider", "error"),
        [([*labels], number) for labels, number in tally.errors.items()],
    )
    yield histogram(
        "tokenferry_request_seconds",
        "From a request's head to its answer's end.",
        _ROUTE,
        {route: series.durations for route, series in routes},
    )
    yield histogram(
        "tokenferry_first_byte_seconds",
        "From a request's head to its answer's.",
        _ROUTE,
        {route: series.first_bytes for route, series in routes},
    )
    yield counter(
        "tokenferry_tokens",
        "Tokens, as the upstreams counted them.",
        (*_ROUTE, "kind"),
        [
            ([*route, kind], n)
            for route, series in routes
            if any(series.tokens)
            for kind, n in zip(TOKENS, series.tokens, strict=True)
        ],
    )
    refused: Counter[str] = Counter(dict.fromkeys(_RATE_REFUSALS.values(), 0))
    for (_, error), number in tally.errors.items():
        if error in _RATE_REFUSALS:
            refused[_RATE_REFUSALS[error]] += number
    yield counter(
        "tokenferry_rate_refusals",
        "Requests refused for a rate, of their client key (client) or of accounts and providers (upstream).",
        ("side",),
        [([side], number) for side, number in refused.items()],
    )
    if tally.counts_keys:
        yield from _of_keys(tally)
    yield counter(
        "tokenferry_body_bytes",
        "Bytes of the bodies of requests (in) and answers (out).",
        ("direction",),
        [(["in"], tally.bytes_in), (["out"], tally.bytes_out)],
    )


def _of_keys(tally: RequestCounters) -> Iterator[MetricFamily]:
    yield counter(
        "tokenferry_key_requests",
        "Requests by client key.",
        ("key",),
        [([name], one.requests) for name, one in tally.keys.items()],
    )
    yield counter(
        "tokenferry_key_tokens",
        "Tokens by client key, as the upstreams counted them.",
        ("key", "kind"),
        [
            ([name, kind], n)
            for name, one in tally.keys.items()
            for kind, n in zip(TOKENS, one.tokens, strict=True)
            if n
        ],
    )


def of_costs(costs: CostCounters, models: ModelLabels, *, counts_keys: bool) -> Iterator[MetricFamily]:
    """Give the costs of requests in dollars. Only requests with tokens that an upstream counted have a cost."""
    routes: Counter[tuple[str, ...]] = Counter()
    for (provider, account, model, billing, source), micros in costs.routes.copy().items():
        routes[provider, account, models.of(model, is_served=True), billing, source] += micros
    yield counter(
        "tokenferry_cost_usd",
        "What requests cost, in dollars; of those that a subscription covers the list price.",
        (*_ROUTE, "billing", "source"),
        [([*labels], micros / _MICROS) for labels, micros in routes.items()],
    )
    if counts_keys:
        keys = sorted(costs.keys.copy().items(), key=lambda one: one[1], reverse=True)
        rows: Rows = [([name], micros / _MICROS) for name, micros in keys[:_MOST_KEYS]]
        yield counter("tokenferry_key_cost_usd", "What requests cost by client key, in dollars.", ("key",), rows)


def of_budgets(found: Sequence[BudgetState], *, counts_keys: bool) -> Iterator[MetricFamily]:
    """Give at most 100 budgets in their current period, in dollars or tokens by `unit`."""
    shown = [one for one in found if counts_keys or not one.key][:_MOST_KEYS]
    labels = [[one.subject, one.unit, one.period, one.key] for one in shown]
    scales = [_MICROS if one.unit == "usd" else 1 for one in shown]

    def rows(numbers: list[int]) -> Rows:
        return [(values, n / scale) for values, n, scale in zip(labels, numbers, scales, strict=True)]

    texts = {
        "limit": ("How much may be used in the period.", rows([one.limit for one in shown])),
        "spent": ("How much is used.", rows([one.used for one in shown])),
        "reserved": ("What requests under way have reserved, in this process.", rows([one.reserved for one in shown])),
    }
    for name, (text, values) in texts.items():
        yield gauge(f"tokenferry_budget_{name}", text, _BUDGET, values)
    ends: Rows = [(values, one.end / 1000) for values, one in zip(labels, shown, strict=True)]
    yield gauge(
        "tokenferry_budget_reset_timestamp_seconds", "When the period ends, in seconds since 1970 UTC.", _BUDGET, ends
    )
    refused: Rows = [(values, one.refusals) for values, one in zip(labels, shown, strict=True)]
    yield counter("tokenferry_budget_refusals", "Requests that the budget refused, in its period.", _BUDGET, refused)


def of_gateway(now: GatewayStatistics) -> Iterator[MetricFamily]:
    yield gauge("tokenferry_requests_in_flight", "Requests under way.", (), [([], now.in_flight)])
    yield gauge("tokenferry_requests_waiting", "Requests that wait for an account's capacity.", (), [([], now.waiting)])
    yield gauge("tokenferry_streams_in_flight", "Event streams under way.", (), [([], now.streams)])
    yield gauge("tokenferry_request_memory_bytes", "Memory that request bodies take up.", (), [([], now.held_bytes)])
    yield counter(
        "tokenferry_access_log_lines_dropped",
        "Lines of the access log that were dropped because nothing read them.",
        (),
        [([], now.log_lines_dropped)],
    )


def of_windows(limits: Mapping[str, LimitState], now: float) -> Iterator[MetricFamily]:
    """Give the current windows, as the latest answers reported them."""
    found = [
        (account, window)
        for account, state in limits.items()
        for window in state.windows
        if window.utilization is not None and window.reset is not None and window.reset > now
    ]
    yield gauge(
        "tokenferry_window_used_ratio",
        "The share of an account's window that is used, as its last response says.",
        ("account", "window"),
        [([account, window.name], window.utilization or 0.0) for account, window in found],
    )
    yield gauge(
        "tokenferry_window_reset_timestamp_seconds",
        "When an account's window ends, in seconds since 1970 UTC.",
        ("account", "window"),
        [([account, window.name], window.reset or 0.0) for account, window in found],
    )


def of_ledger(now: LedgerStatistics) -> Iterator[MetricFamily]:
    yield gauge("tokenferry_ledger_queue", "Requests that wait to be stored.", (), [([], now.waiting)])
    yield gauge("tokenferry_ledger_lag_seconds", "The age of what waits longest.", (), [([], now.lag)])
    yield gauge("tokenferry_ledger_bytes", "The size of ledger.db.", (), [([], now.bytes)])
    yield gauge("tokenferry_ledger_rows_to_delete", "Rows that are too old and still there.", (), [([], now.to_delete)])
    yield counter("tokenferry_ledger_written", "Requests that were stored.", (), [([], now.written)])
    yield counter("tokenferry_ledger_dropped", "Requests that are missing in the ledger.", (), [([], now.dropped)])


def of_upstreams(upstreams: Mapping[str, UpstreamStatistics]) -> Iterator[MetricFamily]:
    yield gauge(
        "tokenferry_upstream_connections",
        "Open connections; idle ones are among them.",
        ("upstream", "state"),
        [row for url, now in upstreams.items() for row in (([url, "open"], now.open), ([url, "idle"], now.idle))],
    )
    yield counter(
        "tokenferry_upstream_connections_opened",
        "Connections that were opened.",
        ("upstream",),
        [([url], now.dialled) for url, now in upstreams.items()],
    )
    yield counter(
        "tokenferry_upstream_failures",
        "Exchanges that failed, by kind.",
        ("upstream", "kind"),
        [([url, kind], number) for url, now in upstreams.items() for kind, number in now.failures.items()],
    )
