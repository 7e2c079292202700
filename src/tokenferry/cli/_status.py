"""The output of `tokenferry status`."""

import time
from collections.abc import Iterator
from contextlib import suppress
from typing import TYPE_CHECKING, Any, Final

from msgspec.structs import asdict

from tokenferry.broker import Broker, interrupted_move
from tokenferry.cli._cooldowns import to_json
from tokenferry.cli._describe import COLUMNS, cells, rows
from tokenferry.cli._home import find, open_broker
from tokenferry.cli._output import note, notes_once, say, say_json, say_lines
from tokenferry.cli._probe import address_of
from tokenferry.cli._sealing import seal_json, seal_line
from tokenferry.cli._services import services_now
from tokenferry.cli._table import labelled, table
from tokenferry.config import Config
from tokenferry.databases import has_ledger, open_ledger, postgres
from tokenferry.errors import TokenferryError
from tokenferry.readiness import (
    AccountRow,
    BudgetUse,
    active_account,
    active_cooldowns,
    budgets_now,
    cooldown_sentence,
    limits_of,
)
from tokenferry.settings import Home
from tokenferry.state import GatewayRecord, gateway_records

if TYPE_CHECKING:
    from tokenferry.views import WindowShare

_MOST_BUDGETS: Final = 12


@notes_once()
def show_status(*, wide: bool, as_json: bool) -> None:
    """Print the state of a home: as one JSON document with `as_json`, else as tables, with every column if `wide`.

    Raises `ConfigError`, `UnsafeFile`.
    """
    home, settings = find()
    broker = open_broker(home, settings)
    gateways, found = _gateways(home), rows(broker)
    budgets = _budgets(home, settings)
    now = services_now(home, settings, broker, {row.name: row.state for row in found})
    if as_json:
        serving = [one.to_json() for one in now]
        say_json(
            _to_json(home, settings, broker, found, _gateway_json(settings, gateways))
            | {"serving": serving, "windows": [one.to_json() for one in _windows(home)]}
            | {"budgets": [one.to_json() for one in budgets]}
        )
        return
    labelled(
        (
            ("home", str(home.path)),
            ("policy", f"subscriptions = {settings.policy.subscriptions}"),
            ("encryption", seal_line(home)),
            ("in use", active_account(broker, note) or "no account: the first in order comes first"),
            ("default", _default(broker)),
            *(("clock", line) for line in _clock(settings)),
            *(("gateway", line) for line in _gateway_lines(gateways)),
            *(("serves", str(one)) for one in now),
            *(("window", one.sentence(time.time())) for one in _windows(home)),
            *(("budget", one.sentence(time.time())) for one in budgets[:_MOST_BUDGETS]),
            *(("limits", f"{one.name}: {'; '.join(limits)}") for one in found if (limits := _limits(settings, one))),
        ),
        12,
    )
    say()
    if found:
        table(COLUMNS, [cells(one) for one in found], wide=wide)
    else:
        say("no account yet; add one with: tokenferry account add NAME --provider anthropic")
    _tell_cooldowns(home)
    for warning in settings.warnings:
        note(warning)
    _tell_move(home)


def _limits(settings: Config, row: AccountRow) -> list[str]:
    return [] if row.document is None else limits_of(settings, row.document.account)


def _windows(home: Home) -> "list[WindowShare]":
    """The accounts' running windows, from the ledger."""
    if not has_ledger(home):
        return []
    from tokenferry.ledger import UsageReport  # noqa: PLC0415  # most homes have no ledger
    from tokenferry.views import open_windows  # noqa: PLC0415  # as above

    try:
        with open_ledger(home) as ledger:
            return open_windows(UsageReport(ledger), time.time())
    except TokenferryError as fault:
        note(str(fault))
        return []


def _budgets(home: Home, settings: Config) -> list[BudgetUse]:
    try:
        return budgets_now(home, settings)
    except TokenferryError as fault:
        note(str(fault))
        return []


def _gateways(home: Home) -> list[GatewayRecord]:
    try:
        return gateway_records(home)
    except TokenferryError as fault:
        note(str(fault))
        return []


def _gateway_lines(records: list[GatewayRecord]) -> Iterator[str]:
    for record in records:
        if record.is_running:
            yield f"listens on {record}"
    if not any(record.is_running for record in records):
        yield "does not run; start it with: tokenferry serve"
    for record in records:
        if not record.is_running:
            yield f"stale record of {record}, which was killed; the next tokenferry serve removes it"


def _gateway_json(settings: Config, records: list[GatewayRecord]) -> dict[str, Any]:
    """`url` is the address of the longest-running gateway, else the configured one."""
    running = [record for record in records if record.is_running]
    return {
        "url": running[0].address if running else address_of(settings.server),
        "listening": bool(running),
        "records": [
            {
                "url": record.url,
                "socket": record.socket and str(record.socket),
                "pid": record.pid,
                "running": record.is_running,
            }
            for record in records
        ],
    }


def _clock(settings: Config) -> list[str]:
    """A sentence if this machine's clock and the database's differ; nothing for a home in files."""
    apart = ""
    if settings.store.url:
        with suppress(TokenferryError):  # the rows of the accounts say that the database is away
            apart = postgres().ConnectionPool(settings.store).facts().clocks_apart(time.time())
    return [f"{apart}; set the clock: timedatectl"] if apart else []


def _to_json(
    home: Home, settings: Config, broker: Broker, found: list[AccountRow], gateway: dict[str, Any]
) -> dict[str, Any]:
    return {
        "home": str(home.path),
        "config": settings.path and str(settings.path),
        "policy": {"subscriptions": settings.policy.subscriptions},
        "sealing": seal_json(home),
        "active": active_account(broker, note),
        "default_provider": broker.default_provider() or None,
        "accounts": [
            one.to_json() | {"refreshes": _refreshes(broker, one), "limits": _limits(settings, one)} for one in found
        ],
        "cooldowns": _cooldowns(home),
        "interrupted_move": _move(home),
        "gateway": gateway,
        "warnings": list(settings.warnings),
    }


def _default(broker: Broker) -> str:
    """The provider of models that nothing maps."""
    name = broker.default_provider()
    if name is None:
        return "no provider yet: the first account that may serve decides it"
    return f"provider {name}" if name else f"unknown: {broker.home and broker.home.default_provider} can't be read"


def _tell_cooldowns(home: Home) -> None:
    now = time.time()
    try:
        found, organizations = active_cooldowns(home, now)
    except TokenferryError as fault:
        note(str(fault))
        return
    if found:
        say_lines(("", "in cooldown (end it with: tokenferry cooldown clear NAME)"))
        say_lines(f"  {cooldown_sentence(one, organizations, now)}" for one in found)


def _cooldowns(home: Home) -> list[dict[str, Any]] | None:
    """The cooldowns; None if they can't be read."""
    now = time.time()
    try:
        return [to_json(one, now) for one in active_cooldowns(home, now)[0]]
    except TokenferryError as fault:
        note(str(fault))
        return None


def _tell_move(home: Home) -> None:
    try:
        record = interrupted_move(home)
    except TokenferryError as fault:
        note(str(fault))
        return
    if record is not None:
        note(
            f"the move of account {record.to} to Claude Code was cut short; complete it with: tokenferry "
            f"claude-code switch {record.to}"
        )


def _move(home: Home) -> dict[str, Any] | None:
    record = interrupted_move(home)
    return None if record is None else {key: getattr(record, key) for key in ("to", "home", "step", "at")}


def _refreshes(broker: Broker, row: AccountRow) -> dict[str, Any]:
    """Refresh statistics as JSON. Most come from disk, because a command sees few refreshes itself."""
    seen = broker.statistics(row.name)
    plain = {**asdict(seen), "failures": dict(seen.failures)}
    if row.document is None:
        return plain
    history = broker.history(row.name)
    last = history.last_failure
    failure = None if last is None else {**asdict(last), "token": last.token[:8]}
    return plain | {"totals": dict(history.totals), "last_failure": failure, "token_age": history.token_age}
