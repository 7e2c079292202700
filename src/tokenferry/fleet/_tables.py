"""What the store of a fleet asks its database: each method is one transaction, whose outcome may stay unknown."""

from collections.abc import Collection, Mapping, Sequence
from typing import Any, Final, Protocol, TypeAlias

from msgspec import Struct

from tokenferry.refresh import AttemptState, RefreshAttempt, RefreshFailure
from tokenferry.secret import HiddenBytes

LOCK_SECONDS: Final = 20.0
"""How long a lock or an attempt counts as alive without a heartbeat."""
MOST_APART: Final = 300.0
"""Seconds that a host's clock and the database's may be apart where a login is refreshed."""
CLEAR: Final = "clear"
"""Stands in the place of a key's id where accounts are in clear."""
HOST_SECONDS: Final = 600.0
"""How long a host counts as live after its last heartbeat."""
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
    sealed_with: str | None = None
    """The id of the key that seals accounts, or `CLEAR`; None if no host has said it yet."""
    next_key: str | None = None
    """What is to seal them once every live host can open it."""


class HostKeys(Struct, frozen=True):
    """A live host: its name in the database and that of its machine, and which keys (`CLEAR` too) it can open."""

    name: str
    label: str
    opens: frozenset[str]

    def __str__(self) -> str:
        return f"{self.label} ({self.name})"


class SharedKey(Struct, frozen=True):
    """Which key seals the accounts, which is to follow, and which live hosts can't open what."""

    sealed_with: str | None = None
    next_key: str | None = None
    hosts: tuple[HostKeys, ...] = ()

    def lines(self) -> list[str]:
        """Sentences without a full stop; the first says what seals the accounts."""
        now = {None: "no key is named yet", CLEAR: "off"}.get(self.sealed_with, f"key {self.sealed_with}")
        found = [now if self.next_key is None else f"{now}; to follow: {self.next_key}"]
        for key in filter(None, (self.sealed_with, self.next_key)):
            what = "read accounts in clear" if key == CLEAR else f"open what {key} seals"
            found += [f"host {host} can't {what}" for host in self.lacking(key)]
        return found

    def lacking(self, key: str) -> list[HostKeys]:
        """The live hosts that can't open it."""
        return [host for host in self.hosts if key not in host.opens]

    def to_json(self) -> dict[str, Any]:
        hosts = [{"name": host.name, "machine": host.label, "opens": sorted(host.opens)} for host in self.hosts]
        return {"sealed_with": self.sealed_with, "next_key": self.next_key, "hosts": hosts}


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

    # -- the sealing key

    def appear(self, host: HostKeys) -> None:
        """Say that the host is live, and what it can open."""
        ...

    def hosts(self) -> Sequence[HostKeys]:
        """The live ones, by name."""
        ...

    def propose(self, key: str) -> None:
        """Say what is to seal accounts next. Nothing is sealed with it yet."""
        ...

    def adopt(self, key: str) -> bool:
        """Have the proposed key seal accounts, unless a live host can't open it; tells whether it does."""
        ...


def shared_key(tables: Tables) -> SharedKey:
    """Ask for it. Raises `StorageFailed`."""
    epoch = tables.epoch()
    return SharedKey(epoch.sealed_with, epoch.next_key, tuple(tables.hosts()))


def withdraw(tables: Tables, name: str, attempt: RefreshAttempt) -> None:
    """Take back an attempt that was never sent; that an earlier one may have been stays on record."""
    if attempt.tries > 1:
        tables.mark(name, attempt.id, "closed")
    else:
        tables.close(name, attempt.id)
