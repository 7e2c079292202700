"""What a home's gateway does with requests and accounts, by the route resolver; for commands and `serve`."""

from tokenferry.readiness._budgets import BudgetUse, budgets_now, key_word, within_budgets
from tokenferry.readiness._cooldowns import active_cooldowns, cooldown_sentence, ends, models, time_left, until
from tokenferry.readiness._explanation import RouteExplanation, RouteQuestion, explain_route
from tokenferry.readiness._names import Misnamed, misnamed
from tokenferry.readiness._resolver import ANYONE, resolver_of
from tokenferry.readiness._services import (
    ServiceStatus,
    Unusable,
    choose,
    expects_service,
    limits_of,
    pool_of,
    services,
    status_of,
    unusable_accounts,
)
from tokenferry.readiness._serving import serving_line
from tokenferry.readiness._standing import (
    TONES,
    AccountRow,
    AccountState,
    account_details,
    account_row,
    account_rows,
    active_account,
    cure_of,
    replacement_of,
)

__all__ = [
    "ANYONE",
    "TONES",
    "AccountRow",
    "AccountState",
    "BudgetUse",
    "Misnamed",
    "RouteExplanation",
    "RouteQuestion",
    "ServiceStatus",
    "Unusable",
    "account_details",
    "account_row",
    "account_rows",
    "active_account",
    "active_cooldowns",
    "budgets_now",
    "choose",
    "cooldown_sentence",
    "cure_of",
    "ends",
    "expects_service",
    "explain_route",
    "key_word",
    "limits_of",
    "misnamed",
    "models",
    "pool_of",
    "replacement_of",
    "resolver_of",
    "services",
    "serving_line",
    "status_of",
    "time_left",
    "until",
    "unusable_accounts",
    "within_budgets",
]
