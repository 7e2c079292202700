"""The error for a client when no account can serve: each account's reason, and when to retry."""

import math
from collections.abc import Mapping, Sequence
from datetime import UTC, datetime
from itertools import pairwise
from typing import TYPE_CHECKING, Final

from msgspec import Struct

from tokenferry.pool._account import Criteria, PoolAccount, Target
from tokenferry.pool._probes import PAUSED
from tokenferry.pool._selection import PassedOver
from tokenferry.pool._steps import Forward, Reject
from tokenferry.pool._trace import Trace, TraceEvent

if TYPE_CHECKING:
    from tokenferry.pool._pool import Pool

_SHORT: Final = 60
_MOST_NAMED: Final = 20
_TRANSIENT: Final = 1.0
_FUZZ: Final = 60.0
_OF_NO_ACCOUNT: Final = frozenset({"request", "transient", "provider"})
_CURE: Final = "; log in again with: tokenferry login NAME, or store another key"
_UNITS: Final = ((86_400, "d"), (3600, "h"), (60, "min"), (1, "s"))


class Reason(Struct, frozen=True):
    """Why an account can't serve, and until when, in seconds since 1970 UTC."""

    account: str
    text: str
    until: float | None
    is_limit: bool = False
    is_unavailable: bool = False
    is_paused: bool = False


def conclusion(pool: "Pool", criteria: Criteria, trace: Trace, last: Forward | None) -> Forward | Reject:
    """Give what the client gets when no account is left: the last error, or the reasons of all accounts."""
    if last is None and trace.unfit and all(target.group.provider in trace.unfit for target in trace.targets):
        return unfit(trace.unfit)
    if last is None and trace.unreachable:
        return unreachable(trace.unreachable)
    trace.considered = considered(pool, trace.targets, criteria)
    found = reasons(trace.considered, trace, pool.now())
    if not found:
        return not_allowed(trace.targets)
    has_limit, are_unavailable = any(one.is_limit for one in found), all(one.is_unavailable for one in found)
    if last is not None and (not has_limit or not _is_of_an_account(trace.last_error)):
        return last
    rejection = exhausted(found, pool.now())
    if has_limit or are_unavailable:
        pool.account_log.exhausted([one.account for one in found], rejection.message)
    if last is None:
        return unavailable(trace) if are_unavailable else rejection
    return rejection if len(found) > 1 or _holds_longer(found[0], trace.last_error) else last


def _is_of_an_account(error: TraceEvent | None) -> bool:
    """Whether the error started a cooldown of an account."""
    if error is None or error.classification is None or error.cooldown is None:
        return False
    return error.classification.scope not in _OF_NO_ACCOUNT


def _holds_longer(reason: Reason, error: TraceEvent | None) -> bool:
    """Whether the account is blocked for longer than the error states."""
    until = None if error is None or error.classification is None else error.classification.until
    return until is not None and reason.until is not None and reason.until > until + _FUZZ


def unavailable(trace: Trace) -> Reject:
    """Reject because no account has a credential. Each fault says why."""
    faults = tuple(outcome.fault for outcome in trace.unavailable.values())
    reason = "; ".join(outcome.reason for outcome in trace.unavailable.values())
    return Reject(503, "api_error", reason, "unavailable", faults=faults)


def considered(pool: "Pool", targets: Sequence[Target], criteria: Criteria) -> list[PassedOver]:
    """Give the state of each account that the request may use."""
    found: dict[str, PassedOver] = {}
    for target in targets:
        for one in pool.selector.report(target, criteria).considered:
            found.setdefault(one.account, one)
    return list(found.values())


def reasons(found: Sequence[PassedOver], trace: Trace, now: float) -> list[Reason]:
    """Give the reason of each account."""
    return [_reason(one, trace, now) for one in found]


def _reason(one: PassedOver, trace: Trace, now: float) -> Reason:
    if one.cause:
        return Reason(one.account, _clause(one.reason), one.until, one.is_limit, is_paused=one.cause == PAUSED)
    if (outcome := trace.unavailable.get(one.account)) is not None:
        until = None if outcome.retry_after is None else now + outcome.retry_after
        return Reason(one.account, outcome.reason, until, is_unavailable=True)
    event = trace.last_of(one.account)
    if event is None:
        return Reason(one.account, one.reason, one.until)
    error = event.classification
    text = event.reason if error is None else f"it answered {event.status}, {_clause(error.reason)}"
    return Reason(one.account, text, now + _TRANSIENT)


def exhausted(found: Sequence[Reason], now: float) -> Reject:
    """Reject because no account can serve: with 429 if waiting helps, with 503 if each account needs attention."""
    ends = [one.until for one in found if one.until is not None]
    retry_after = max(math.ceil(min(ends) - now), 1) if ends else None
    named = "; ".join(f"{one.account}: {one.text}{_until(one, now)}" for one in found[:_MOST_NAMED])
    more = f"; and {len(found) - _MOST_NAMED} more" if len(found) > _MOST_NAMED else ""
    if retry_after is None and not any(one.is_limit for one in found):
        cure = "" if all(one.is_unavailable or one.is_paused for one in found) else _CURE
        message = f"all accounts need attention ({named}{more}){cure}"
        return Reject(503, "api_error", message, "no_usable_account")
    retry = "" if retry_after is None else f"; try again in {span_in_words(retry_after)}"
    return Reject(
        429,
        "rate_limit_error",
        f"no account can serve this now ({named}{more}){retry}",
        "exhausted",
        retry_after,
        retry_after is not None and retry_after <= _SHORT,
    )


def not_allowed(targets: Sequence[Target]) -> Reject:
    providers = ", ".join(dict.fromkeys(target.group.provider for target in targets))
    message = f"this client key may not use any account of {providers}; ask the operator for another key"
    return Reject(403, "permission_error", message, "no_allowed_account")


def unreachable(failed: Mapping[str, str]) -> Reject:
    failures = "; ".join(f"{provider}: {reason}" for provider, reason in failed.items())
    message = f"no provider can be reached ({failures}); nothing was sent; check the local network, then retry"
    return Reject(502, "api_error", message, "local_network", should_retry=True)


def unfit(reasons: Mapping[str, str]) -> Reject:
    named = "; ".join(f"{provider}: {reason}" for provider, reason in reasons.items())
    cure = "change the request, or map the model to another provider"
    message = f"no provider of this model can serve this request ({named}); {cure}"
    return Reject(400, "invalid_request_error", message, "unfit")


def attempts_exhausted(attempts: int, seconds: float) -> Reject:
    message = f"gave up after {attempts} attempts in {seconds:.0f} s, though other accounts are left; retry"
    return Reject(529, "overloaded_error", message, "gave_up", 1, should_retry=True)


def at_capacity(pool: "Pool", busy: Sequence[PoolAccount], criteria: Criteria) -> Reject:
    """Reject because these accounts have reached their caps and the request can't wait for one."""
    at, waiting, each = pool.monotonic(), pool.waiting, len(busy)
    ahead = (len(waiting) / each, sum(ticket.tokens for ticket in waiting) / each)
    seconds = max(math.ceil(min(pool.capacity.delay(one, at, criteria.tokens, ahead) for one in busy)), 1)
    found = {one.name: pool.capacity.reason(one, at, criteria.tokens) or "other requests wait for it" for one in busy}
    named = "; ".join(f"{name}: {reason}" for name, reason in list(found.items())[:_MOST_NAMED])
    too_many = f", and {len(waiting)} requests already wait" if waiting else ""
    message = f"no account has capacity now ({named}){too_many}; try again in {span_in_words(seconds)}"
    return Reject(429, "rate_limit_error", message, "at_capacity", seconds, should_retry=seconds <= _SHORT)


def _clause(sentence: str) -> str:
    """Give a sentence as a clause."""
    return sentence[:1].lower() + sentence[1:].rstrip(".")


def _until(one: Reason, now: float) -> str:
    if one.until is None or one.until <= now + _TRANSIENT:
        return ""
    return f", until {datetime.fromtimestamp(math.ceil(one.until), UTC):%Y-%m-%d %H:%M:%S} UTC"


def span_in_words(seconds: int) -> str:
    """Give a wait in one or two units, rounded up so that a client never retries too early."""
    for (length, unit), (least, lesser) in pairwise(_UNITS):
        if seconds >= 2 * length:
            whole, rest = divmod(math.ceil(seconds / least), length // least)
            return f"{whole} {unit} {rest} {lesser}" if rest else f"{whole} {unit}"
    return f"{seconds} s"
