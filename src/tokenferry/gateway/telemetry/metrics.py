"""Answers `GET /metrics` in the text format of Prometheus, which prometheus-client writes on request."""

import asyncio
import contextlib
import json
import logging
import time
from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from typing import Protocol, get_args

from tokenferry.broker import ForcedRenewals
from tokenferry.errors import CorruptFile, StorageFailed
from tokenferry.gateway.telemetry.counters import RequestCounters
from tokenferry.gateway.telemetry.exposition import MetricFamily, counter, gauge, labelled, render
from tokenferry.gateway.telemetry.metric_families import (
    GatewayStatistics,
    of_budgets,
    of_costs,
    of_gateway,
    of_ledger,
    of_requests,
    of_upstreams,
    of_windows,
)
from tokenferry.gateway.telemetry.record import RequestRecord
from tokenferry.gateway.telemetry.shared_memory import SharedMemory
from tokenferry.ledger import BudgetState, CostCounters, LedgerStatistics
from tokenferry.limits import LimitState
from tokenferry.readiness import AccountState
from tokenferry.refresh import RefreshStatistics
from tokenferry.settings import MetricsSettings
from tokenferry.state import Cooldown
from tokenferry.stores import Account
from tokenferry.upstream._clients import UpstreamClients

logger = logging.getLogger(__name__)


class AccountSource(Protocol):
    """Gives accounts and their refreshes. `Broker` is the implementation."""

    def accounts(self) -> list[Account]: ...

    def statistics(self, name: str) -> RefreshStatistics: ...

    def forced_renewals(self, name: str) -> ForcedRenewals: ...


class Metrics:
    """Counts a gateway's requests, and reports metrics. For one event loop only.

    `states` gives each account's state by name, `login_ages` the seconds since its credential was created or renewed,
    and `sessions` the number of dashboard sessions; these and `cooldowns` may read files. Workers share their metrics
    on `board` by `publish`, so that each can answer for all; `place` is this worker's.
    """

    def __init__(
        self,
        source: AccountSource,
        upstreams: UpstreamClients,
        *,
        states: Callable[[], Mapping[str, str]] = dict,
        cooldowns: Callable[[], Iterable[Cooldown]] = tuple,
        limits: Callable[[], Mapping[str, LimitState]] = dict,
        login_ages: Callable[[], Mapping[str, float]] = dict,
        sessions: Callable[[], int] | None = None,
        ledger: Callable[[], LedgerStatistics] | None = None,
        costs: CostCounters | None = None,
        budgets: Callable[[], Sequence[BudgetState]] = tuple,
        settings: MetricsSettings | None = None,
        board: SharedMemory | None = None,
        place: int = 0,
    ) -> None:
        self._tally = RequestCounters()
        self._tally.counts_keys = settings is not None and settings.client_keys
        self._source = source
        self._upstreams = upstreams
        self._states = states
        self._cooldowns = cooldowns
        self._limits = limits
        self._login_ages = login_ages
        self._sessions = sessions
        self._ledger = ledger
        self._costs = costs
        self._budgets = budgets
        self._board = board
        self._place = place
        self._reloads = {"applied": 0, "refused": 0}
        self._gateway: Callable[[], GatewayStatistics] = GatewayStatistics

    def watch(self, gateway: Callable[[], GatewayStatistics]) -> None:
        """Include this gateway's statistics."""
        self._gateway = gateway

    def adopt(self, settings: MetricsSettings) -> None:
        """Apply a changed configuration, and count it."""
        self._tally.counts_keys = settings.client_keys
        self._reloads["applied"] += 1

    def refuse_reload(self) -> None:
        """Count a changed configuration that is invalid."""
        self._reloads["refused"] += 1

    def add(self, *records: RequestRecord) -> None:
        """Count ended requests."""
        for record in records:
            self._tally.add(record)

    async def answer(self, accept: str) -> tuple[bytes, str]:
        """Give the text and its content type, negotiated by the `accept` header."""
        families = list(self._families())
        return await asyncio.to_thread(self._render, families, accept)

    def _render(self, families: list[MetricFamily], accept: str) -> tuple[bytes, str]:
        if self._board is not None:
            shown = {self._place: families}
            for place, content in self._board.others(self._place).items():
                shown[place] = [MetricFamily(*fields) for fields in json.loads(content)]
            families = labelled("worker", {str(place + 1): shown[place] for place in sorted(shown)})
        states = dict.fromkeys(get_args(AccountState), 0) | Counter(self._states().values())
        accounts = gauge("tokenferry_accounts", "Accounts by state.", ("state",), [([s], n) for s, n in states.items()])
        return render([*families, accounts, self._passed_over(), *self._of_people()], accept)

    def _of_people(self) -> Iterator[MetricFamily]:
        """Give the age of logins, and the number of dashboard sessions."""
        yield gauge(
            "tokenferry_login_age_seconds",
            "Since an account's credential was made or last renewed.",
            ("account",),
            [([name], age) for name, age in self._login_ages().items()],
        )
        if self._sessions is not None:
            signed_in = 0
            with contextlib.suppress(StorageFailed, CorruptFile):
                signed_in = self._sessions()
            yield gauge("tokenferry_dashboard_sessions", "Sessions at the dashboard.", (), [([], signed_in)])

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
        """Share the metrics with other workers. Call it about once a second."""
        if self._board is not None and not self._board.put(
            self._place, json.dumps(list(self._families())).encode("ascii")
        ):
            logger.warning("there are more metrics than shared memory holds; scrape each worker by itself")

    def _families(self) -> Iterator[MetricFamily]:
        shown = self._gateway()  # counts what has ended
        yield from of_requests(self._tally)
        yield from of_gateway(shown)
        yield from of_windows(self._limits(), time.time())
        if self._costs is not None:
            yield from of_costs(self._costs, self._tally.families, counts_keys=self._tally.counts_keys)
        yield from of_budgets(self._budgets(), counts_keys=self._tally.counts_keys)
        if self._ledger is not None:
            yield from of_ledger(self._ledger())
        yield from of_upstreams(self._upstreams.statistics())
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
