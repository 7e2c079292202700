"""What the refresh flow asks its driver to do. Each effect says what it is answered with."""

from dataclasses import dataclass
from typing import TypeAlias

from tokenferry.credentials import OAuthToken
from tokenferry.oauth import TokenRequest
from tokenferry.refresh._journal import AttemptState, RefreshAttempt, RefreshFailure
from tokenferry.stores import Document


@dataclass(frozen=True, slots=True)
class Acquire:
    """Take the account's lock. Answered with None, or with the holder's name when it was not free in time."""

    timeout: float


@dataclass(frozen=True, slots=True)
class Release:
    """Let go of the lock."""


@dataclass(frozen=True, slots=True)
class Read:
    """Answered with the current `Document`; the store's errors are thrown into the flow."""


@dataclass(frozen=True, slots=True)
class ReadAttempt:
    """Answered with the `RefreshAttempt` on record, or None."""


@dataclass(frozen=True, slots=True)
class ReadVerdict:
    """Answered with the `RefreshFailure` on record, or None."""


@dataclass(frozen=True, slots=True)
class RecordAttempt:
    """Make the attempt durable. `StorageFailed` is thrown in when that can't be."""

    attempt: RefreshAttempt


@dataclass(frozen=True, slots=True)
class RecordAnswer:
    """Make the attempt's answer durable. `StorageFailed` is thrown in."""

    attempt: RefreshAttempt
    token: OAuthToken


@dataclass(frozen=True, slots=True)
class Mark:
    """Note, in place, how the attempt ended. `StorageFailed` is thrown in."""

    attempt: RefreshAttempt
    state: AttemptState


@dataclass(frozen=True, slots=True)
class Close:
    """Forget the attempt. `StorageFailed` is thrown in."""


@dataclass(frozen=True, slots=True)
class RecordFailure:
    """Keep a verdict for every process, or clear it with None. Answered with whether that could be done."""

    verdict: RefreshFailure | None


@dataclass(frozen=True, slots=True)
class CheckReplaceable:
    """See that the document could be replaced. What keeps it from that is thrown in; nothing is written."""


@dataclass(frozen=True, slots=True)
class StillHeld:
    """Answered with whether the lock is held still, and was taken over by nobody."""


@dataclass(frozen=True, slots=True)
class Send:
    """POST the request. Answered with a `HttpOutcome`.

    That bytes of it may leave is noted in the attempt, durably, before the first one does; without that note none does.
    """

    request: TokenRequest
    timeout: float
    attempt: RefreshAttempt | None = None


@dataclass(frozen=True, slots=True)
class Publish:
    """Swap the document in, if its generation is `expected`. `Conflict` and `StorageFailed` are thrown in."""

    expected: int
    document: Document


@dataclass(frozen=True, slots=True)
class Deliver:
    """Give callers this document now: the flow goes on, but they need not wait for it."""

    document: Document


@dataclass(frozen=True, slots=True)
class Sleep:
    """Wait. Answered with False when the process wants to end, else with True."""

    seconds: float


Effect: TypeAlias = (
    Acquire
    | Release
    | Read
    | ReadAttempt
    | ReadVerdict
    | RecordAttempt
    | RecordAnswer
    | Mark
    | Close
    | RecordFailure
    | CheckReplaceable
    | StillHeld
    | Send
    | Publish
    | Deliver
    | Sleep
)
