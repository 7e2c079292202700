"""What `GET /metrics` answers: the text format of Prometheus, made by prometheus-client when somebody asks."""

import asyncio
import contextlib
import json
import logging
import time
from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass
from typing import Final, Protocol

from tokenferry.broker import ForcedRenewals
from tokenferry.errors import CorruptFile, StorageFailed
from tokenferry.gateway.telemetry.counters import TOKENS, RequestCounters
from tokenferry.gateway.telemetry.exposition import MetricFamily, counter, gauge, histogram, labelled, render
from tokenferry.gateway.telemetry.record import RequestRecord
from tokenferry.gateway.telemetry.shared_memory import SharedMemory
from tokenferry.ledger import LedgerStatistics
from tokenferry.limits import LimitState
from tokenferry.refresh import RefreshStatistics
from tokenferry.state import Cooldown
from tokenferry.stores import Account
from tokenferry.upstream import UpstreamStatistics
from tokenferry.upstream._clients import UpstreamClients

logger = logging.getLogger(__name__)

_ROUTE: Final = ("provider", "account", "model")


@dataclass(frozen=True, slots=True)
class GatewayStatistics:
    """`held_bytes` is what request bodies take up in memory."""

    in_flight: int = 0
    streams: int = 0
    served: int = 0
    held_bytes: int = 0
    log_lines_dropped: int = 0


class AccountSource(Protocol):
    """What the metrics need of a `Broker`."""

    def accounts(self) -> list[Account]: ...

    def statistics(self, name: str) -> RefreshStatistics: ...

    def forced_renewals(self, name: str) -> ForcedRenewals: ...


class Metrics:
    """Counts what a gateway serves, and tells it. It belongs to one event loop.

    `states` gives each account's state in a word, by name; it may read files, as may `cooldowns`. Workers that share a
    board tell each other by `publish`, so that each can answer for all; `place` is this one's.
    """

    def __init__(
        self,
        source: AccountSource,
        upstreams: UpstreamClients,
        *,
        states: Callable[[], Mapping[str, str]] = dict,
        cooldowns: Callable[[], Iterable[Cooldown]] = tuple,
        limits: Callable[[], Mapping[str, LimitState]] = dict,
        ledger: Callable[[], LedgerStatistics] | None = None,
        board: SharedMemory | None = None,
        place: int = 0,
    ) -> None:
        self._tally = RequestCounters()
        self._source = source
        self._upstreams = upstreams
        self._states = states
        self._cooldowns = cooldowns
        self._limits = limits
        self._ledger = ledger
        self._board = board
        self._place = place
        self._reloads = {"applied": 0, "refused": 0}
        self._gateway: Callable[[], GatewayStatistics] = GatewayStatistics

    def watch(self, gateway: Callable[[], GatewayStatistics]) -> None:
        """Tell of this gateway, too."""
        self._gateway = gateway

    def note_reload(self, *, adopted: bool) -> None:
        """Count a configuration that was read anew."""
        self._reloads["applied" if adopted else "refused"] += 1

    def add(self, *records: RequestRecord) -> None:
        """Count requests that have ended."""
        for record in records:
            self._tally.add(record)

    async def answer(self, accept: str) -> tuple[bytes, str]:
        """Give the text and its content type, which `accept`, a header's value, may choose."""
        families = list(self._families())
        return await asyncio.to_thread(self._render, families, accept)

    def _render(self, families: list[MetricFamily], accept: str) -> tuple[bytes, str]:
        if self._board is not None:
            told = {self._place: families}
            for place, content in self._board.others(self._place).items():
                told[place] = [MetricFamily(*fields) for fields in json.loads(content)]
            families = labelled("worker", {str(place + 1): told[place] for place in sorted(told)})
        states = Counter(self._states().values())
        accounts = gauge("tokenferry_accounts", "Accounts by state.", ("state",), [([s], n) for s, n in states.items()])
        return render([*families, accounts, self._passed_over()], accept)

    def _passed_over(self) -> MetricFamily:
        now = time.time()
        found: Counter[tuple[str, str, str]] = Counter()
        with contextlib.suppress(StorageFailed, CorruptFile):
            found.update(
                (one.scope.kind, one.scope.name, one.cause) for one in self._cooldowns() if not one.is_over(now)
            )
        return gauge(
            "tokenferry_cooldowns",
            "Active cooldowns; several with the same cause are of several model families.",
            ("kind", "name", "cause"),
            [([*labels], number) for labels, number in found.items()],
        )

    def publish(self) -> None:
        """Tell the other workers, if there are any, how things stand; to be called about once a second."""
        if self._board is not None and not self._board.put(
            self._place, json.dumps(list(self._families())).encode("ascii")
        ):
            logger.warning("there are more metrics than shared memory holds; scrape each worker by itself")

    def _families(self) -> Iterator[MetricFamily]:
        told = self._gateway()  # counts what has ended by now
        yield from _of_requests(self._tally)
        yield from _of_gateway(told)
        yield from _of_windows(self._limits(), time.time())
        if self._ledger is not None:
            yield from _of_ledger(self._ledger())
        yield from _of_upstreams(self._upstreams.statistics())
        yield self._refreshes()
        yield self._forced_renewals()
        yield counter(
            "tokenferry_config_reloads",
            "Reloads of the configuration by outcome.",
            ("outcome",),
            [([outcome], number) for outcome, number in self._reloads.items()],
        )

    def _refreshes(self) -> MetricFamily:
        rows: list[tuple[list[str], float]] = []
        for account in self._source.accounts():
            seen = self._source.statistics(account.name)
            outcomes = {"refreshed": seen.grants, "shared": seen.adopted, **seen.failures}
            rows += [([account.name, outcome], number) for outcome, number in outcomes.items()]
        return counter(
            "tokenferry_refreshes",
            "Refreshes of an account's token by how they ended; shared: another process had done it.",
            ("account", "outcome"),
            rows,
        )

    def _forced_renewals(self) -> MetricFamily:
        rows: list[tuple[list[str], float]] = []
        for account in self._source.accounts():
            seen = self._source.forced_renewals(account.name)
            rows += [([account.name, "refreshed"], seen.granted), ([account.name, "capped"], seen.capped)]
        return counter(
            "tokenferry_forced_refreshes",
            "Refreshes after a refused token; capped: not begun, because there were too many in an hour.",
            ("account", "outcome"),
            rows,
        )


def _of_requests(tally: RequestCounters) -> Iterator[MetricFamily]:
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
        [([*route, kind], n) for route, series in routes for kind, n in zip(TOKENS, series.tokens, strict=True) if n],
    )
    yield counter(
        "tokenferry_body_bytes",
        "Bytes of the bodies of requests (in) and answers (out).",
        ("direction",),
        [(["in"], tally.bytes_in), (["out"], tally.bytes_out)],
    )


def _of_gateway(now: GatewayStatistics) -> Iterator[MetricFamily]:
    yield gauge("tokenferry_requests_in_flight", "Requests under way.", (), [([], now.in_flight)])
    yield gauge("tokenferry_streams_in_flight", "Event streams under way.", (), [([], now.streams)])
    yield gauge("tokenferry_request_memory_bytes", "Memory that request bodies take up.", (), [([], now.held_bytes)])
    yield counter(
        "tokenferry_access_log_lines_dropped",
        "Lines of the access log that were dropped because nothing read them.",
        (),
        [([], now.log_lines_dropped)],
    )


def _of_windows(limits: Mapping[str, LimitState], now: float) -> Iterator[MetricFamily]:
    """The windows that have not ended, as answers told of them last."""
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


def _of_ledger(now: LedgerStatistics) -> Iterator[MetricFamily]:
    yield gauge("tokenferry_ledger_queue", "Requests that wait to be stored.", (), [([], now.waiting)])
    yield gauge("tokenferry_ledger_lag_seconds", "The age of what waits longest.", (), [([], now.lag)])
    yield gauge("tokenferry_ledger_bytes", "The size of ledger.db.", (), [([], now.bytes)])
    yield gauge("tokenferry_ledger_rows_to_delete", "Rows that are too old and still there.", (), [([], now.to_delete)])
    yield counter("tokenferry_ledger_written", "Requests that were stored.", (), [([], now.written)])
    yield counter("tokenferry_ledger_dropped", "Requests that are missing in the ledger.", (), [([], now.dropped)])


def _of_upstreams(upstreams: Mapping[str, UpstreamStatistics]) -> Iterator[MetricFamily]:
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
