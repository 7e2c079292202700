"""The back-off after a failed grant, shared by all processes."""

from collections.abc import Generator
from typing import Any, Final, TypeAlias, TypeVar

from tokenferry.credentials import ExchangedToken
from tokenferry.errors import NeedsLogin, RefreshFailed
from tokenferry.oauth import NotGranted
from tokenferry.refresh import _effects as effects
from tokenferry.refresh._job import FlowContext, log_in_again
from tokenferry.refresh._journal import RefreshFailure, VerdictKind
from tokenferry.secret import Secret
from tokenferry.stores import Document

_Result = TypeVar("_Result")
Flow: TypeAlias = Generator[effects.Effect, Any, _Result]

_LONGEST_BACKOFF: Final = 300.0
_LONGEST_RETRY_AFTER: Final = 3600.0


def check_backoff(
    failure: RefreshFailure | None,
    document: Document,
    presented: str | None,
    context: FlowContext,
    *,
    adopt_from: float | None,
    forced: bool = False,
) -> None:
    """Raise the recorded failure of the token to be presented (`presented`, its sha256) while it is in force.

    A caller that has waited for the lock since `adopt_from` also adopts a failure recorded during its wait.
    """
    name, now = document.account.name, context.now()
    if failure is None or failure.token != presented:
        return
    if failure.kind == "needs-login":
        if forced and document.account.kind == ExchangedToken.kind:
            return  # asking again uses nothing up, and the operator may have fixed the cause at the vendor
        raise NeedsLogin(f"account {name!r}: {failure.reason}; {log_in_again(document.account)}")
    if failure.kind != "failed":
        return
    left = failure.until - now
    is_in_force = 0 < left <= _LONGEST_RETRY_AFTER and not forced  # a longer wait: the clock was set back
    if is_in_force or (adopt_from is not None and adopt_from <= failure.at <= now):
        wait = max(left, 1.0)
        raise RefreshFailed(
            f"account {name!r} could not be refreshed: {failure.reason}; the next try is in {wait:.0f} s",
            retry_after=wait,
        )


def back_off(
    outcome: NotGranted, presented: Secret, now: float, last: RefreshFailure | None, jitter: float
) -> RefreshFailure:
    """Return the failure to record after a grant without a decision, with the time of the next try."""
    kind: VerdictKind = "failed"
    failures = 1 if last is None or (last.kind, last.token) != (kind, presented.sha256) else last.failures + 1
    delay = min(2.0 ** min(failures - 1, 16), _LONGEST_BACKOFF) * jitter
    asked = min(outcome.retry_after or 0.0, _LONGEST_RETRY_AFTER)
    return RefreshFailure(kind, presented.sha256, now, outcome.reason, until=now + max(delay, asked), failures=failures)
