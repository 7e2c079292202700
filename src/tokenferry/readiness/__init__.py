"""What the gateway of a home does with requests and accounts, as the route resolver says: for commands and `serve`."""

from tokenferry.readiness._explanation import RouteExplanation, RouteQuestion, explain_route
from tokenferry.readiness._names import Misnamed, misnamed
from tokenferry.readiness._resolver import ANYONE, resolver_of
from tokenferry.readiness._services import (
    ServiceStatus,
    Unusable,
    choose,
    expects_service,
    pool_of,
    services,
    status_of,
    unusable_accounts,
)
from tokenferry.readiness._serving import serving_line

__all__ = [
    "ANYONE",
    "Misnamed",
    "RouteExplanation",
    "RouteQuestion",
    "ServiceStatus",
    "Unusable",
    "choose",
    "expects_service",
    "explain_route",
    "misnamed",
    "pool_of",
    "resolver_of",
    "services",
    "serving_line",
    "status_of",
    "unusable_accounts",
]
