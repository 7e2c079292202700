"""What a grant that gave nothing means for the next ones, of whichever process."""

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
    """Raise what an earlier grant for the very token to be presented (its sha256) ended with, while that still counts.

    Who waited for the lock (`adopt_from`: since when) takes a failure during its wait as its own.
    """
    name, now = document.account.name, context.now()
    if failure is None or failure.token != presented:
        return
    if failure.kind == "needs-login":
        if forced and document.account.kind == ExchangedToken.kind:
            return  # nothing is used up by asking again: what was missing at the vendor may be there by now
        raise NeedsLogin(f"account {name!r}: {failure.reason}; {log_in_again(document.account)}")
    if failure.kind != "failed":
        return
    left = failure.until - now
    counts = 0 < left <= _LONGEST_RETRY_AFTER and not forced  # a longer one is a clock that was set back
    if counts or (adopt_from is not None and adopt_from <= failure.at <= now):
        wait = max(left, 1.0)
        raise RefreshFailed(
            f"account {name!r} could not be refreshed: {failure.reason}; the next try is in {wait:.0f} s",
            retry_after=wait,
        )


def back_off(
    outcome: NotGranted, presented: Secret, now: float, last: RefreshFailure | None, jitter: float
) -> RefreshFailure:
    """What to record of a grant that decided nothing: when the same token may be presented again."""
    kind: VerdictKind = "failed"
    is_repeated = last is not None and last.kind == kind and last.token == presented.sha256
    failures = last.failures + 1 if last is not None and is_repeated else 1
    delay = min(2.0 ** min(failures - 1, 16), _LONGEST_BACKOFF) * jitter
    asked = min(outcome.retry_after or 0.0, _LONGEST_RETRY_AFTER)
    return RefreshFailure(kind, presented.sha256, now, outcome.reason, until=now + max(delay, asked), failures=failures)
