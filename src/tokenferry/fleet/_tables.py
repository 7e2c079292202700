"""What the store of a fleet asks its database: each method is one transaction, whose outcome may stay unknown."""

from collections.abc import Collection, Mapping, Sequence
from typing import Final, Protocol, TypeAlias

from msgspec import Struct

from tokenferry.refresh import AttemptState, RefreshAttempt, RefreshFailure
from tokenferry.secret import HiddenBytes

LOCK_SECONDS: Final = 20.0
"""How long a lock or an attempt counts as alive without a heartbeat."""
MOST_APART: Final = 300.0
"""Seconds that a host's clock and the database's may be apart where a login is refreshed."""
HOLD_OFF: Final = 90.0
"""Seconds after a restart or failover in which no attempt begins: what was lost is put forward again in that time."""


Order: TypeAlias = tuple[int, int, int]
"""Epoch of the last write, `added`, generation."""


class AccountRecord(Struct, frozen=True):
    """A row of `accounts`. `refresh` is the sha256 of the refresh token, `epoch` that of the last write.

    Rows are ordered: after a failover that lost writes the database may hold an older one. `added` is higher for an
    account that got the name of one that was removed.
    """

    name: str
    generation: int
    refresh: str | None
    body: HiddenBytes
    epoch: int = 0
    added: int = 0

    @property
    def order(self) -> Order:
        return self.epoch, self.added, self.generation


class AttemptRecord(Struct, frozen=True):
    """A row of `attempts`: `lapsed` without a heartbeat, or `forgotten` by an operator with its host."""

    attempt: RefreshAttempt
    is_lapsed: bool = False
    is_forgotten: bool = False


class Epoch(Struct, frozen=True):
    """One run of one server. A restart or a failover begins another."""

    number: int
    hold_off: float
    """Seconds until attempts may begin; 0 when they may."""
    now: float
    """The database's clock, in seconds since 1970 UTC."""


class Tables(Protocol):
    """All methods raise `StorageFailed` where the database can't be asked, or a commit's outcome is unknown."""

    def account(self, name: str) -> AccountRecord | None: ...
    def accounts(self, names: Collection[str]) -> Sequence[AccountRecord]: ...
    def names(self) -> list[str]: ...

    def stamps(self) -> Mapping[str, Order]:
        """The order of every account's row. Asks for them only when one was changed."""
        ...

    def insert(self, record: AccountRecord) -> None:
        """Add an account in the present epoch. Raises `Conflict` for a name that is taken, `UsageError` for a twin."""
        ...

    def replace(self, record: AccountRecord, expected: int, presented: str | None = None) -> bool:
        """Replace the row of that generation; with `presented` only if its refresh token is still that one (sha256).

        An epoch of 0 stands for the present one.
        """
        ...

    def put_forward(self, record: AccountRecord) -> bool:
        """Replace an older row by one that this process saw before a failover lost it."""
        ...

    def remove(self, name: str, expected: int | None) -> bool:
        """Remove the row of that generation; None for whichever there is."""
        ...

    def attempt(self, name: str) -> AttemptRecord | None: ...

    def begin(self, name: str, attempt: RefreshAttempt, replaces: str | None) -> None:
        """Record an attempt in place of the one seen, if the account has that refresh token still.

        Raises `Conflict` otherwise, and `RefreshBusy` in the hold-off of an epoch, and where the clocks are too far
        apart.
        """
        ...

    def reassert(self, name: str, attempt: RefreshAttempt) -> None:
        """Record an attempt that a failover may have lost, if its token is still the account's.

        One on record stays that counts as many presentations of that token.
        """
        ...

    def mark(self, name: str, attempt: str, state: AttemptState) -> None: ...
    def close(self, name: str, attempt: str) -> None: ...
    def failure(self, name: str) -> RefreshFailure | None: ...
    def record_failure(self, name: str, failure: RefreshFailure | None) -> None: ...
    def totals(self, name: str) -> Mapping[str, int]: ...

    def forget(self, name: str) -> None:
        """Remove the account's attempt and failure."""
        ...

    def take(self, name: str, holder: str, program: str) -> str | None:
        """Take a lock that is free or whose holder has lapsed. Gives the program that has it, None if this does."""
        ...

    def release(self, name: str, holder: str) -> None: ...

    def renew(self, holders: Collection[str], attempts: Collection[str]) -> frozenset[str]:
        """Keep locks and attempts alive; gives the holders that still have theirs. It takes no lock back."""
        ...

    def epoch(self) -> Epoch:
        """The present epoch; begins one where the server was started since."""
        ...


def withdraw(tables: Tables, name: str, attempt: RefreshAttempt) -> None:
    """Take back an attempt that was never sent; that an earlier one may have been stays on record."""
    if attempt.tries > 1:
        tables.mark(name, attempt.id, "closed")
    else:
        tables.close(name, attempt.id)
