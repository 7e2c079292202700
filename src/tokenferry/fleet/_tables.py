"""The database operations of a fleet's store: each method is one transaction, whose outcome may stay unknown."""

from collections.abc import Collection, Mapping, Sequence
from typing import Any, Final, Protocol, TypeAlias

from msgspec import Struct

from tokenferry.refresh import AttemptState, RefreshAttempt, RefreshFailure
from tokenferry.secret import HiddenBytes

LOCK_SECONDS: Final = 20.0
"""Seconds without a heartbeat after which a lock or an attempt lapses."""
MOST_APART: Final = 300.0
"""The greatest difference between a host's clock and the database's, in seconds, at which logins are refreshed."""
CLEAR: Final = "clear"
"""Used in place of a key's id if accounts are unencrypted."""
HOST_SECONDS: Final = 600.0
"""Seconds after its last heartbeat for which a host counts as live."""
HOLD_OFF: Final = 90.0
"""Seconds after a restart or failover in which no attempt begins, so that hosts can write again what was lost."""


Order: TypeAlias = tuple[int, int, int]
"""The epoch of the last write, `added`, and the generation."""


class AccountRecord(Struct, frozen=True):
    """A row of `accounts`. `refresh` is the sha256 of the refresh token, `epoch` that of the last write.

    Rows are ordered, since a failover that lost writes may bring an older one back. `added` is higher for an account
    with the name of a removed one.
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
    """A row of `attempts`: `lapsed` without a heartbeat, `forgotten` if an operator forgot its host."""

    attempt: RefreshAttempt
    is_lapsed: bool = False
    is_forgotten: bool = False


class Epoch(Struct, frozen=True):
    """One run of one server. A restart or a failover begins another."""

    number: int
    hold_off: float
    """Seconds until attempts may begin; 0 if they may begin now."""
    now: float
    """The database's clock, in seconds since 1970 UTC."""
    sealed_with: str | None = None
    """The id of the key that seals accounts, or `CLEAR`; None if no host has set it yet."""
    next_key: str | None = None
    """The key that will seal them once every live host has it."""


class HostKeys(Struct, frozen=True):
    """A live host: its names in the database and of its machine, and the keys (or `CLEAR`) that it has."""

    name: str
    label: str
    opens: frozenset[str]

    def __str__(self) -> str:
        return f"{self.label} ({self.name})"


class SharedKey(Struct, frozen=True):
    """The key that seals the accounts, the proposed next one, and the live hosts that lack one."""

    sealed_with: str | None = None
    next_key: str | None = None
    hosts: tuple[HostKeys, ...] = ()

    def lines(self) -> list[str]:
        """Give sentences without a full stop; the first names the key that seals the accounts."""
        now = {None: "no key is named yet", CLEAR: "off"}.get(self.sealed_with, f"key {self.sealed_with}")
        found = [now if self.next_key is None else f"{now}; to follow: {self.next_key}"]
        for key in filter(None, (self.sealed_with, self.next_key)):
            what = "read accounts in clear" if key == CLEAR else f"open what {key} seals"
            found += [f"host {host} can't {what}" for host in self.lacking(key)]
        return found

    def lacking(self, key: str) -> list[HostKeys]:
        """Give the live hosts that lack the key."""
        return [host for host in self.hosts if key not in host.opens]

    def to_json(self) -> dict[str, Any]:
        hosts = [{"name": host.name, "machine": host.label, "opens": sorted(host.opens)} for host in self.hosts]
        return {"sealed_with": self.sealed_with, "next_key": self.next_key, "hosts": hosts}


class Tables(Protocol):
    """The operations. All raise `StorageFailed` if the database is away or a commit's outcome is unknown."""

    def account(self, name: str) -> AccountRecord | None: ...
    def accounts(self, names: Collection[str]) -> Sequence[AccountRecord]: ...
    def names(self) -> list[str]: ...

    def stamps(self) -> Mapping[str, Order]:
        """Give the order of every account's row. Asks for them only after a change."""
        ...

    def insert(self, record: AccountRecord) -> None:
        """Add an account in the present epoch.

        Raises `Conflict` for a name that is taken, `UsageError` for one that differs only in case.
        """
        ...

    def replace(self, record: AccountRecord, expected: int, presented: str | None = None) -> bool:
        """Replace the row of that generation; with `presented`, only if its refresh token is still that one (sha256).

        An epoch of 0 means the present one.
        """
        ...

    def put_forward(self, record: AccountRecord) -> bool:
        """Replace an older row by one that this process read before a failover lost it."""
        ...

    def remove(self, name: str, expected: int | None) -> bool:
        """Remove the row of that generation; None for any generation."""
        ...

    def attempt(self, name: str) -> AttemptRecord | None: ...

    def begin(self, name: str, attempt: RefreshAttempt, replaces: str | None) -> None:
        """Record an attempt in place of the one that was read, if the account still has that refresh token.

        Raises `Conflict` otherwise, and `RefreshBusy` in the hold-off of an epoch, and if the clocks are too far apart.
        """
        ...

    def reassert(self, name: str, attempt: RefreshAttempt) -> None:
        """Record an attempt again that a failover may have lost, if its token is still the account's.

        A recorded attempt that counts as many presentations of that token is kept.
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
        """Take a lock that is free or has lapsed. Gives its holder if another program has it, else None."""
        ...

    def release(self, name: str, holder: str) -> None: ...

    def renew(self, holders: Collection[str], attempts: Collection[str]) -> frozenset[str]:
        """Renew locks and attempts; give the holders that still have theirs. A lost lock isn't taken again."""
        ...

    def epoch(self) -> Epoch:
        """Give the present epoch; begin one if the server was restarted."""
        ...

    # -- the sealing key

    def appear(self, host: HostKeys) -> None:
        """Record that the host is live, and the keys that it has."""
        ...

    def hosts(self) -> Sequence[HostKeys]:
        """Give the live hosts, by name."""
        ...

    def propose(self, key: str) -> None:
        """Record the next key. Nothing is sealed with it yet."""
        ...

    def adopt(self, key: str) -> bool:
        """Let the proposed key seal accounts, unless a live host lacks it; tell whether it does."""
        ...


def shared_key(tables: Tables) -> SharedKey:
    """Read the shared key. Raises `StorageFailed`."""
    epoch = tables.epoch()
    return SharedKey(epoch.sealed_with, epoch.next_key, tuple(tables.hosts()))


def withdraw(tables: Tables, name: str, attempt: RefreshAttempt) -> None:
    """Remove an attempt that was never sent; the record of an earlier one that may have been sent stays."""
    if attempt.tries > 1:
        tables.mark(name, attempt.id, "closed")
    else:
        tables.close(name, attempt.id)
