"""The causes of a gateway's alerts."""

from collections.abc import Callable, Iterable, Iterator, Mapping
from datetime import UTC, datetime
from functools import partial
from typing import Final

from tokenferry.alerts import Alert, Alerts
from tokenferry.budgets import THRESHOLDS
from tokenferry.config import Config
from tokenferry.ledger import BudgetState
from tokenferry.pool import Pool
from tokenferry.state import AlertClaims

_DEAD: Final = {"needs-login": "needs a login", "refused": "is refused by its provider"}
_ALERTED: Final = tuple(one for one in THRESHOLDS if one < 100)  # noqa: PLR2004  # a used-up budget refuses requests, which people notice


def alerts_of(
    config: Config,
    claims: AlertClaims,
    pool: Pool,
    *,
    states: Callable[[], Mapping[str, str]],
    budgets: Callable[[], Iterable[BudgetState]],
) -> Alerts:
    """Make the alerts of a gateway: dead logins, budgets nearly used, and requests that no account could serve."""
    alerts = Alerts(config.alerts, claims, partial(_conditions, states, budgets))
    pool.account_log.on_exhausted = lambda message: alerts.add(Alert("exhausted", "", message))
    return alerts


def _conditions(
    states: Callable[[], Mapping[str, str]], budgets: Callable[[], Iterable[BudgetState]]
) -> Iterator[Alert]:
    for name, state in states().items():
        if state in _DEAD:
            remedy = f"log in again, or store another key; see: tokenferry account show {name}"
            yield Alert("needs-login", name, f"account {name} {_DEAD[state]}: {remedy}")
    for budget in budgets():
        passed = [percent for percent in _ALERTED if budget.percent >= percent]
        if passed:
            end = budget.end / 1000
            until = f", until {datetime.fromtimestamp(end, UTC):%Y-%m-%d %H:%M} UTC" if budget.period != "total" else ""
            message = f"{budget.percent} % of {budget.title} is used{until}"
            yield Alert(
                "budget",
                f"{budget.subject} {budget.key}".rstrip(),
                message,
                end,
                f"{passed[-1]} {budget.unit} {budget.period}",
                is_logged=True,  # by what reads the ledger
            )
