"""What the refresh flow asks its driver to do. Each effect says what it is answered with."""

from typing import TypeAlias

from msgspec import Struct

from tokenferry.credentials import OAuthToken
from tokenferry.oauth import TokenRequest
from tokenferry.refresh._journal import AttemptState, RefreshAttempt, RefreshFailure
from tokenferry.stores import Document


class Acquire(Struct, frozen=True):
    """Take the account's lock. Answered with None, or with the holder's name when it was not free in time."""

    timeout: float


class Release(Struct, frozen=True):
    """Let go of the lock."""


class Read(Struct, frozen=True):
    """Answered with the current `Document`; the store's errors are thrown into the flow."""


class ReadAttempt(Struct, frozen=True):
    """Answered with the `RefreshAttempt` on record, or None."""


class ReadFailure(Struct, frozen=True):
    """Answered with the `RefreshFailure` on record, or None."""


class RecordAttempt(Struct, frozen=True):
    """Make the attempt durable in place of the one with the id `replaces`; None for no attempt.

    `Conflict` is thrown in when another one is on record, `StorageFailed` when it can't be written.
    """

    attempt: RefreshAttempt
    replaces: str | None = None


class RecordAnswer(Struct, frozen=True):
    """Make the attempt's answer durable. `StorageFailed` is thrown in."""

    attempt: RefreshAttempt
    token: OAuthToken


class Mark(Struct, frozen=True):
    """Note, in place, how the attempt ended. `StorageFailed` is thrown in."""

    attempt: RefreshAttempt
    state: AttemptState


class Close(Struct, frozen=True):
    """Forget the attempt, and no other one. `StorageFailed` is thrown in."""

    attempt: RefreshAttempt


class RecordFailure(Struct, frozen=True):
    """Keep a failure for every process, or clear it with None. Answered with whether that could be done."""

    failure: RefreshFailure | None


class CheckReplaceable(Struct, frozen=True):
    """See that the document could be replaced. What keeps it from that is thrown in; nothing is written."""


class StillHeld(Struct, frozen=True):
    """Answered with whether the lock is still held, and no other process has taken it over."""


class Send(Struct, frozen=True):
    """POST the request. Answered with a `HttpOutcome`.

    That bytes of it may leave is noted in the attempt, durably, before the first one does; without that note none does.
    """

    request: TokenRequest
    timeout: float
    attempt: RefreshAttempt | None = None


class Publish(Struct, frozen=True):
    """Swap the document in, if its generation is `expected` and it holds the token that was presented (sha256).

    `Conflict` and `StorageFailed` are thrown in.
    """

    expected: int
    document: Document
    presented: str | None = None


class Deliver(Struct, frozen=True):
    """Give callers this document now: the flow goes on, but they need not wait for it."""

    document: Document


class Sleep(Struct, frozen=True):
    """Wait. Answered with False when the process wants to end, else with True."""

    seconds: float


Effect: TypeAlias = (
    Acquire
    | Release
    | Read
    | ReadAttempt
    | ReadFailure
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
