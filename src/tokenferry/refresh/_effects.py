"""What the refresh flow asks its driver to do, and what each effect is answered with."""

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
    """Release the lock."""


class Read(Struct, frozen=True):
    """Answered with the current `Document`; the store's errors are thrown into the flow."""


class ReadAttempt(Struct, frozen=True):
    """Answered with the `RefreshAttempt` on record, or None."""


class ReadFailure(Struct, frozen=True):
    """Answered with the `RefreshFailure` on record, or None."""


class RecordAttempt(Struct, frozen=True):
    """Make the attempt durable in place of the one with the id `replaces`; None: no attempt.

    Throws `Conflict` into the flow when another one is on record, `StorageFailed` when it can't be written.
    """

    attempt: RefreshAttempt
    replaces: str | None = None


class RecordAnswer(Struct, frozen=True):
    """Make the attempt's answer durable. Throws `StorageFailed` into the flow."""

    attempt: RefreshAttempt
    token: OAuthToken


class Mark(Struct, frozen=True):
    """Mark, in place, how the attempt ended. Throws `StorageFailed` into the flow."""

    attempt: RefreshAttempt
    state: AttemptState


class Close(Struct, frozen=True):
    """Remove this attempt from the record, and no other one. Throws `StorageFailed` into the flow."""

    attempt: RefreshAttempt


class RecordFailure(Struct, frozen=True):
    """Record a failure for all processes, or clear it with None. Answered with whether it was written."""

    failure: RefreshFailure | None


class CheckReplaceable(Struct, frozen=True):
    """Check, without writing, that the document could be replaced. Throws the reason into the flow if not."""


class StillHeld(Struct, frozen=True):
    """Answered with whether this process still holds the lock."""


class Send(Struct, frozen=True):
    """POST the request. Answered with a `HttpOutcome`.

    The attempt says durably that bytes may have left before the first one does. If that can't be written, none leaves.
    """

    request: TokenRequest
    timeout: float
    attempt: RefreshAttempt | None = None


class Publish(Struct, frozen=True):
    """Swap the document in, if its generation is `expected` and it holds the token that was presented (sha256).

    Throws `Conflict` and `StorageFailed` into the flow.
    """

    expected: int
    document: Document
    presented: str | None = None


class Deliver(Struct, frozen=True):
    """Give the waiting callers this document now, while the flow goes on."""

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
