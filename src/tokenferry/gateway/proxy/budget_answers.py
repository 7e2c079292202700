"""The headers and errors that show budgets to clients such as Claude Code."""

import math
from datetime import datetime
from functools import lru_cache
from typing import Final

from tokenferry.budgets import THRESHOLDS, BudgetRefusal, Counter, Reservation
from tokenferry.gateway.http.errors import GatewayError
from tokenferry.gateway.http.headers import Header

_PREFIX: Final = b"anthropic-ratelimit-unified-"
_PERIODS: Final = {"day": b"daily", "week": b"weekly", "month": b"monthly"}
_MOMENT: Final = 1
_DISK: Final = 10
_FULL: Final = 100
_WAYS_OUT: Final = "wait until then, or ask the operator of this gateway for more"
_WAY_OUT: Final = "ask the operator of this gateway for more"


def budget_lines(reservation: Reservation) -> tuple[bytes, ...]:
    """Give the header lines of a good answer. They describe the budget with the highest share used."""
    counter = reservation.most_consumed
    return _lines(min(counter.shown, _FULL - 1), counter.reset)


@lru_cache(1024)
def _lines(percent: int, reset: int | None) -> tuple[bytes, ...]:
    passed = [one for one in THRESHOLDS if one <= percent]
    status = b"allowed_warning" if passed else b"allowed"
    headers = [
        (b"status", status),
        (b"representative-claim", b"overage"),
        (b"overage-status", status),
        (b"overage-utilization", b"0.%02d" % percent),
        *([(b"overage-surpassed-threshold", b"0.%02d" % passed[-1])] if passed else ()),
        *_resets(reset),
    ]
    return tuple(b"%b%b: %b\r\n" % (_PREFIX, *header) for header in headers)


def budget_error(refusal: BudgetRefusal, key_name: str, now: float) -> GatewayError:
    """Give the error for a request that a budget refuses. `now` is in seconds since 1970 UTC."""
    counter = refusal.counter
    budget, reset = counter.budget, counter.reset
    what = budget.title(key_name)
    match refusal.cause:
        case "reserved":
            message = f"what is left of {what} is reserved by requests in progress or just ended; try again in a moment"
            return GatewayError(
                *(429, "rate_limit_error", message),
                should_retry=True,
                retry_after=_MOMENT,
                cause="budget_reserved",
            )
        case "unknown":
            message = f"what is left of {what} can't be read; see the gateway's log, or try again in a moment"
            return GatewayError(503, "api_error", message, should_retry=True, retry_after=_DISK, cause="budget_unknown")
        case "too_large":
            left = budget.limit.amount_text(max(counter.limit - counter.used, 0))
            message = f"this request may use more than is left of {what} ({left}); {_way_out(counter, _WAY_OUT)}"
        case "used_up":
            until = "" if reset is None else f" until {datetime.fromtimestamp(reset, budget.zone):%Y-%m-%d %H:%M %Z}"
            message = f"{what} is used up{until}; {_way_out(counter, _WAY_OUT if reset is None else _WAYS_OUT)}"
    headers: list[Header] = [
        (b"status", b"rejected"),
        (b"overage-utilization", b"1"),
        (b"overage-surpassed-threshold", b"1"),
        (b"overage-disabled-reason", b"org_spend_cap_reached"),
        *_resets(reset),
    ]
    if (period := _PERIODS.get(budget.limit.period)) is not None:
        headers.append((b"overage-period", period))
    return GatewayError(
        *(429, "billing_error", message),
        retry_after=None if reset is None else max(math.ceil(reset - now), 1),
        headers=tuple((_PREFIX + name, value) for name, value in headers),
        cause="budget_used_up" if refusal.cause == "used_up" else "budget_too_small",
    )


def _way_out(counter: Counter, otherwise: str) -> str:
    return counter.budget.settings.blocked_message or otherwise


def _resets(reset: int | None) -> list[Header]:
    return [] if reset is None else [(name, b"%d" % reset) for name in (b"reset", b"overage-reset")]
