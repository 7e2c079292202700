"""What serves now, what needs a person, and the usage: for the dashboard and `status --watch`."""

from collections.abc import Iterator, Mapping, Sequence
from datetime import datetime
from typing import Any, Final, Literal, TypeAlias

from msgspec import Struct, field
from msgspec.structs import replace

from tokenferry.broker import Broker
from tokenferry.config import load
from tokenferry.errors import TokenferryError
from tokenferry.ledger import Period, SeriesPoint, TrafficFilter, TrafficRow, Usage, UsageRow, total
from tokenferry.readiness import (
    AccountRow,
    ServiceStatus,
    account_rows,
    active_cooldowns,
    budgets_now,
    cure_of,
    unusable_accounts,
)
from tokenferry.settings import Home
from tokenferry.state import GatewayRecord, gateway_records
from tokenferry.units import dollars, short, span
from tokenferry.views._books import LedgerReader
from tokenferry.views._windows import WindowShare, open_windows

Provenance: TypeAlias = Literal["official", "estimate", "unknown"]
"""`official`: counted here or reported by a provider; `estimate`: derived from that; `unknown`: not reported."""

_MINUTE_MS: Final = 60_000
_HOUR_MS: Final = 60 * _MINUTE_MS
_LATELY: Final = 5
"""The minutes over which a rate is taken."""
_ERRORS: Final = 8
_NAMED: Final = 3
"""The most models that the sentence names."""
_LIMITED: Final = 429
_PRICED: Final = "at list prices, by the tokens that answers reported"


class Figure(Struct, frozen=True):
    """A number for people, and its source."""

    name: str
    text: str
    provenance: Provenance
    why: str = ""

    def to_json(self) -> dict[str, str]:
        return {"name": self.name, "text": self.text, "provenance": self.provenance, "why": self.why}


class Need(Struct, frozen=True):
    """Something that needs a person: its subject, the fault, and the command that fixes it."""

    subject: str
    text: str
    cure: str
    account: str = ""
    """The account it is about; empty for another subject."""
    paused: tuple[str, ...] = ()
    """The paused accounts that could serve if resumed."""
    key: str = ""
    """The id of the client key whose budget it is about."""
    route: str | None = None
    """The unserved model whose route explains it; empty for an unmapped model."""
    is_budget: bool = False
    """Whether it is about a budget of `[[budgets]]`."""

    def to_json(self) -> dict[str, str]:
        return {"subject": self.subject, "text": self.text, "cure": self.cure}


class NowView(Struct, frozen=True):
    """The state of a home at a moment, in seconds since 1970 UTC."""

    at: float
    gateways: tuple[GatewayRecord, ...]
    accounts: tuple[AccountRow, ...]
    services: tuple[ServiceStatus, ...]
    usable: frozenset[str]
    """The accounts that could serve now."""
    needs: tuple[Need, ...]
    back_at: float | None
    """When the first limited or paused account returns."""
    windows: tuple[WindowShare, ...] = ()
    errors: tuple[TrafficRow, ...] = ()
    """The latest requests that failed within the last hour."""
    minutes: tuple[SeriesPoint, ...] = ()
    """The usage of each of the last 60 minutes."""
    today: Mapping[str, Usage] = field(default_factory=dict)
    """The usage of each account since midnight, by this machine's clock."""
    figures: tuple[Figure, ...] = ()
    fault: str = ""
    """Why a part of it can't be read."""

    @property
    def is_serving(self) -> bool:
        return bool(self.gateways) and any(one.is_served for one in self.services)

    @property
    def unserved(self) -> tuple[ServiceStatus, ...]:
        return tuple(one for one in self.services if not one.is_served)

    @property
    def is_whole(self) -> bool:
        """Whether every known model is served."""
        return self.is_serving and not self.unserved

    @property
    def sentence(self) -> str:
        """A summary in one line."""
        if not self.accounts:
            return "There is no account yet."
        usable = f"{len(self.usable)} of {len(self.accounts)} account{'s' if len(self.accounts) > 1 else ''} usable"
        back = "" if self.back_at is None else f"; the next one is back in {span(self.back_at - self.at)}"
        if not self.gateways:
            return f"No gateway runs. {usable}{back}."
        return f"{self._serving}. {usable}{back}."

    @property
    def _serving(self) -> str:
        if not self.is_serving:
            return "Nothing is served"
        if not self.unserved:
            return "Serving"
        names = [one.model or "any other model" for one in self.unserved]
        more = f" and {len(names) - _NAMED} more" if len(names) > _NAMED else ""
        are_limited = all(one.status == _LIMITED for one in self.unserved)
        what = "limited or paused" if any(one.paused for one in self.unserved) else "limited"
        why = f": {'its' if len(names) == 1 else 'their'} accounts are {what}" if are_limited else ""
        return f"Serving all but {', '.join(names[:_NAMED])}{more}{why}"

    def to_json(self) -> dict[str, Any]:
        """Everything but the secrets; times in seconds since 1970 UTC."""
        return {
            "at": int(self.at),
            "sentence": self.sentence,
            "serving": self.is_serving,
            "gateways": [one.address for one in self.gateways],
            "accounts": [
                {"name": one.name, "state": one.state, "text": one.text, "usable": one.name in self.usable}
                for one in self.accounts
            ],
            "services": [one.to_json() for one in self.services],
            "needs": [one.to_json() for one in self.needs],
            "back_at": None if self.back_at is None else int(self.back_at),
            "windows": [one.to_json() for one in self.windows],
            "errors": [
                {"at": one.at_ms // 1000, "request_id": one.request_id, "status": one.status, "error": one.error}
                | {"account": one.account, "model": one.model}
                for one in self.errors
            ],
            "figures": [one.to_json() for one in self.figures],
            "fault": self.fault or None,
        }


def now_view(
    home: Home, broker: Broker, books: LedgerReader, services: Sequence[ServiceStatus], *, now: float
) -> NowView:
    """Make the view from accounts, gateways, cooldowns and the ledger, without the network."""
    faults: list[str] = []
    rows = account_rows(broker, now, tell=faults.append)
    documents = {row.name: row.document for row in rows if row.document is not None}
    unusable = unusable_accounts(broker, {row.name: row.state for row in rows}, documents)
    unusable_states = {"limited", "needs-login", "refused", "broken", "locked"}
    paused = {row.name for row in rows if row.is_paused}
    is_limited = any(one.status == _LIMITED for one in services)
    usable = {row.name for row in rows if row.state not in unusable_states} - unusable.keys() - paused
    try:
        gateways = tuple(one for one in gateway_records(home) if one.is_running)
        ends = [
            one.until
            for one in active_cooldowns(home, now)[0]
            if one.until and one.cause != "overage" and (is_limited or not one.scope.family)
        ] + [row.until for row in rows if row.is_paused and row.until]
    except TokenferryError as fault:
        faults.append(str(fault))
        gateways, ends = (), []
    needs = [*_needs(rows, services, paused), *_used_up(home, now, faults)]
    view = NowView(
        now,
        gateways,
        tuple(rows),
        tuple(services),
        frozenset(usable),
        tuple(needs),
        min(ends, default=None) if is_limited or len(usable) < len(rows) else None,
    )
    return _with_usage(view, books, faults)


def _needs(rows: Sequence[AccountRow], services: Sequence[ServiceStatus], paused: set[str]) -> list[Need]:
    found = [
        Need(f"account {row.name}", row.text, cure_of(row) or "tokenferry doctor", row.name)
        for row in rows
        if row.state in {"needs-login", "refused", "copied", "locked", "broken"} and row.name not in paused
    ]
    if rows:
        found += [
            Need(
                one.subject,
                f"nothing serves it, a client gets {one.status}: {one.bare_reason}",
                f"tokenferry account resume {one.paused[0]}" if one.paused else "tokenferry explain route",
                paused=one.paused,
                route=one.model or "",
            )
            for one in services
            if not one.is_served
        ]
    return found


def _used_up(home: Home, now: float, faults: list[str]) -> Iterator[Need]:
    """Yield the budgets whose requests are refused now."""
    try:
        found = budgets_now(home, load(home.config, statement=home.statement), now=now)
    except TokenferryError as fault:
        faults.append(str(fault))
        return
    for one in (use for use in found if use.refuses):
        reset = one.counter.reset
        until = "until it is raised" if reset is None else f"for {span(reset - now)}"
        text = f"its budget of {one.counter.budget.limit.sentence} is used up, so its requests are refused {until}"
        if one.key_id:
            cure = f"tokenferry key set {one.key} --budget LIMIT"
            yield Need(one.subject, text, cure, key=one.key_id)
        else:
            yield Need(one.subject, text, "tokenferry config edit", is_budget=True)


def _with_usage(view: NowView, books: LedgerReader, faults: list[str]) -> NowView:
    """Add the ledger's data to the view."""
    now_ms = int(view.at * 1000)
    midnight = datetime.fromtimestamp(view.at).replace(hour=0, minute=0, second=0, microsecond=0)  # noqa: DTZ006  # this machine's day is meant
    spans = [
        Period("lately", now_ms - _LATELY * _MINUTE_MS, now_ms + 1),
        Period("hour", now_ms - _HOUR_MS, now_ms + 1),
        Period("today", int(midnight.timestamp() * 1000), now_ms + 1),
    ]
    found: list[UsageRow] = []
    try:
        usage, traffic = books.usage(), books.traffic()
        if usage is not None and traffic is not None:
            found = usage.rows(spans, ("account",))
            lately = TrafficFilter(now_ms - _HOUR_MS + _MINUTE_MS, now_ms + 1)
            lines = traffic.series(lately, "minutes", "provider", most=0).lines
            view = replace(
                view,
                windows=tuple(open_windows(usage, view.at)),
                errors=traffic.page(TrafficFilter(now_ms - _HOUR_MS, now_ms + 1, status="failed"), count=_ERRORS).rows,
                minutes=lines.get("other", ()),
                today={row.group[0]: row.usage for row in found if row.period is spans[2]},
            )
    except TokenferryError as fault:
        faults.append(str(fault))
    sums = [total(row for row in found if row.period is one) for one in spans]
    return replace(view, figures=tuple(_figures(*sums)), fault=" ".join(dict.fromkeys(faults)))


def _figures(lately: Usage, hour: Usage, today: Usage) -> list[Figure]:
    failed = f"{hour.errors:,} of {hour.requests:,}" if hour.requests else "none"
    return [
        Figure("requests a minute", _rate(lately.requests / _LATELY), "official", f"over {_LATELY} minutes"),
        Figure("tokens a minute", _rate(lately.tokens / _LATELY), *_counted(lately)),
        Figure("failed in the last hour", failed, "official", "counted here"),
        Figure("cost today", dollars(today.cost), *_priced(today, today.cost)),
        Figure("covered by plans today", dollars(today.plan), *_priced(today, today.plan)),
    ]


def _rate(count: float) -> str:
    return short(round(count)) if count >= 10 or count == round(count) else f"{count:.1f}"  # noqa: PLR2004  # digits


def _counted(usage: Usage) -> tuple[Provenance, str]:
    """Return the source of a number of tokens."""
    if usage.uncounted and usage.uncounted == usage.requests:
        return "unknown", "no answer reported tokens"
    if usage.uncounted:
        return "estimate", f"{usage.uncounted:,} of {usage.requests:,} answers reported no tokens"
    if usage.estimated:
        return "estimate", f"{usage.estimated:,} answers were cut, so their output is estimated"
    return "official", "as answers reported them"


def _priced(usage: Usage, micros: int) -> tuple[Provenance, str]:
    if not micros:
        return _counted(usage)
    if usage.unpriced_cost:
        return "estimate", f"{_PRICED}; {dollars(usage.unpriced_cost)} of it is for models of unknown price"
    return "estimate", _PRICED
