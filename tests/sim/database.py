"""A virtual database that stalls, is cut off, leaves commits in doubt, restarts, and loses the last of them."""

import random
from collections import Counter
from collections.abc import Callable, Collection, Mapping, Sequence
from dataclasses import dataclass, field
from typing import TypeVar

import msgspec

from tokenferry.errors import Conflict, RefreshBusy, StorageFailed
from tokenferry.fleet import HOLD_OFF, LOCK_SECONDS, AccountRecord, AttemptRecord, Epoch, HostKeys, Order
from tokenferry.refresh import AttemptState, RefreshAttempt, RefreshFailure

_Value = TypeVar("_Value")


@dataclass(frozen=True)
class _Run:
    """An epoch: which server it stands for, and since when."""

    number: int
    server: int
    since: float


@dataclass
class Contents:
    """What is durable."""

    accounts: dict[str, AccountRecord] = field(default_factory=dict)
    attempts: dict[str, tuple[RefreshAttempt, float]] = field(default_factory=dict)
    """With the time until which each is alive without a heartbeat."""
    failures: dict[str, RefreshFailure] = field(default_factory=dict)
    run: _Run = _Run(1, 1, float("-inf"))

    def copied(self) -> "Contents":
        return Contents(dict(self.accounts), dict(self.attempts), dict(self.failures), self.run)


@dataclass
class VirtualDatabase:
    """One server of several in turn. `now` is its clock."""

    now: Callable[[], float]
    replaced: Callable[..., None]
    """Called with each row and the one that takes its place."""
    contents: Contents = field(default_factory=Contents)
    locks: dict[str, tuple[str, float]] = field(default_factory=dict)
    history: list[tuple[float, Contents]] = field(default_factory=list)
    server: int = 1
    added: int = 0
    """How many accounts were."""
    sealed_with: str | None = None
    next_key: str | None = None
    hosts: dict[str, HostKeys] = field(default_factory=dict)
    wiped_at: float = float("-inf")
    """When locks were lost with a server."""
    is_away: bool = False

    def commit(self) -> None:
        if not self.history or self.history[-1][1] != self.contents:
            self.history.append((self.now(), self.contents.copied()))

    def restart(self) -> None:
        """The locks are gone, everything else stays."""
        self.locks.clear()
        self.server += 1
        self.wiped_at = self.now()

    def fail_over(self, lag: float) -> None:
        """A standby takes over that lacks what was committed in the last `lag` seconds."""
        known = [contents for at, contents in self.history if at <= self.now() - lag]
        self.contents = known[-1].copied() if known else self.history[0][1].copied()
        self.restart()
        self.commit()


@dataclass
class Rules:
    """What a mutant of the statements leaves out."""

    compares: bool = True
    locks_row: bool = True
    holds_off: bool = True
    compares_presented: bool = True
    renew_inserts: bool = False
    lapses_by_host_clock: bool = False


class VirtualTables:
    """The `Tables` of one process. A write may be lost, done, or done later without its answer."""

    def __init__(  # who asks, over which network
        self,
        database: VirtualDatabase,
        rng: random.Random,
        rules: Rules,
        *,
        is_cut: Callable[[], bool] = lambda: False,
        doubt: Callable[[], float] = lambda: 0.0,
        later: Callable[[float, Callable[[], None]], None] = lambda _, action: action(),
        host_now: Callable[[], float] | None = None,
        is_lockless: bool = False,
    ) -> None:
        """With `is_lockless` everybody gets the lock: nothing unsafe may follow from that."""
        self._db = database
        self._rng = rng
        self._rules = rules
        self._is_cut = is_cut
        self._doubt = doubt
        self._later = later
        self._host_now = host_now or database.now
        self._is_lockless = is_lockless

    # -- the network

    def _reach(self) -> Contents:
        if self._is_cut() or self._db.is_away:
            raise StorageFailed("the database can't be reached")
        return self._db.contents

    def _write(self, action: Callable[[], _Value]) -> _Value:
        self._reach()
        if self._rng.random() < self._doubt():
            kind = self._rng.choice(("lost", "done", "late"))
            if kind != "lost":
                self._later(self._rng.uniform(0, 10) if kind == "late" else 0.0, lambda: self._late(action))
            raise StorageFailed("the connection was lost amid a commit")
        done = action()
        self._db.commit()
        return done

    def _late(self, action: Callable[[], object]) -> None:
        try:
            action()
        except (Conflict, RefreshBusy):
            return
        self._db.commit()

    # -- accounts

    def account(self, name: str) -> AccountRecord | None:
        return self._reach().accounts.get(name)

    def accounts(self, names: Collection[str]) -> Sequence[AccountRecord]:
        return [row for name, row in self._reach().accounts.items() if name in names]

    def names(self) -> list[str]:
        return sorted(self._reach().accounts)

    def stamps(self) -> Mapping[str, Order]:
        return {name: row.order for name, row in self._reach().accounts.items()}

    def insert(self, record: AccountRecord) -> None:
        def insert() -> None:
            rows = self._db.contents.accounts
            if record.name in rows:
                raise Conflict(record.name)
            self._db.added += 1
            rows[record.name] = self._present(record, self._db.added)

        self._write(insert)

    def replace(self, record: AccountRecord, expected: int, presented: str | None = None) -> bool:
        def put() -> bool:
            rows = self._db.contents.accounts
            row = rows.get(record.name)
            if row is None or row.generation != expected:
                return False
            if presented is not None and self._rules.compares_presented and row.refresh != presented:
                return False
            self._db.replaced(row, record, is_later=False)
            rows[record.name] = self._present(record, row.added)
            return True

        return self._write(put)

    def put_forward(self, record: AccountRecord) -> bool:
        row = self._reach().accounts.get(record.name)
        if row is None or row.order >= record.order:
            return False

        def put() -> bool:
            self._db.replaced(row, record, is_later=True)
            self._db.contents.accounts[record.name] = record
            return True

        return self._write(put)

    def _present(self, record: AccountRecord, added: int) -> AccountRecord:
        return msgspec.structs.replace(record, epoch=record.epoch or self._db.contents.run.number, added=added)

    def remove(self, name: str, expected: int | None) -> bool:
        def remove() -> bool:
            row = self._db.contents.accounts.get(name)
            if row is None or expected not in {None, row.generation}:
                return False
            del self._db.contents.accounts[name]
            return True

        return self._write(remove)

    # -- attempts

    def attempt(self, name: str) -> AttemptRecord | None:
        found = self._reach().attempts.get(name)
        return None if found is None else AttemptRecord(found[0], is_lapsed=found[1] < self._db.now())

    def begin(self, name: str, attempt: RefreshAttempt, replaces: str | None) -> None:
        contents = self._reach()
        before = contents
        if not self._rules.locks_row:  # it sees what was there when it began to wait for another's commit
            known = [one for at, one in self._db.history if at <= self._db.now() - self._rng.uniform(0, 2)]
            before = known[-1] if known else contents

        def begin() -> None:
            contents = self._db.contents
            row = (contents if self._rules.locks_row else before).accounts.get(name)
            recorded = contents.attempts.get(name)
            if self._rules.compares and (recorded[0].id if recorded else None) != replaces:
                raise Conflict("another attempt is on record")
            if row is None or row.refresh != attempt.token:
                raise Conflict("it has another token")
            if self._rules.holds_off and (left := self.epoch_in(contents).hold_off) > 0:
                raise RefreshBusy("the database was restarted", retry_after=left)
            contents.attempts[name] = attempt, self._db.now() + LOCK_SECONDS

        self._write(begin)

    def reassert(self, name: str, attempt: RefreshAttempt) -> None:
        def put() -> None:
            row = self._db.contents.accounts.get(name)
            found = self._db.contents.attempts.get(name)
            is_known = found is not None and found[0].token == attempt.token
            if row is None or row.refresh != attempt.token:
                return
            if not is_known or (found is not None and found[0].presentations < attempt.presentations):
                self._db.contents.attempts[name] = attempt, self._db.now() + LOCK_SECONDS

        self._write(put)

    def mark(self, name: str, attempt: str, state: AttemptState) -> None:
        def mark() -> None:
            found = self._db.contents.attempts.get(name)
            if found is not None and found[0].id == attempt:
                self._db.contents.attempts[name] = msgspec.structs.replace(found[0], state=state), found[1]

        self._write(mark)

    def close(self, name: str, attempt: str) -> None:
        def close() -> None:
            found = self._db.contents.attempts.get(name)
            if found is not None and found[0].id == attempt:
                del self._db.contents.attempts[name]

        self._write(close)

    def failure(self, name: str) -> RefreshFailure | None:
        return self._reach().failures.get(name)

    def record_failure(self, name: str, failure: RefreshFailure | None) -> None:
        def record() -> None:
            if failure is None:
                self._db.contents.failures.pop(name, None)
            else:
                self._db.contents.failures[name] = failure

        self._write(record)

    def totals(self, name: str) -> Mapping[str, int]:  # the flow asks for none
        return Counter()

    def forget(self, name: str) -> None:
        self._db.contents.attempts.pop(name, None)
        self._db.contents.failures.pop(name, None)

    # -- locks and epochs

    def take(self, name: str, holder: str, program: str) -> str | None:
        self._reach()
        now = self._host_now() if self._rules.lapses_by_host_clock else self._db.now()
        _, until = self._db.locks.get(name, ("", float("-inf")))
        if until >= now and not self._is_lockless:
            return program
        self._db.locks[name] = holder, now + LOCK_SECONDS
        return None

    def release(self, name: str, holder: str) -> None:
        self._reach()
        if self._db.locks.get(name, ("", 0.0))[0] == holder:
            del self._db.locks[name]

    def renew(self, holders: Collection[str], attempts: Collection[str]) -> frozenset[str]:
        contents = self._reach()
        until = (self._host_now() if self._rules.lapses_by_host_clock else self._db.now()) + LOCK_SECONDS
        kept = {name: holder for name, (holder, _) in self._db.locks.items() if holder in holders}
        if self._rules.renew_inserts and holders:
            kept = {"alice": next(iter(holders))}
        self._db.locks.update({name: (holder, until) for name, holder in kept.items()})
        for name, (attempt, _) in contents.attempts.items():
            if attempt.id in attempts:
                contents.attempts[name] = attempt, self._db.now() + LOCK_SECONDS
        return frozenset(kept.values())

    def epoch(self) -> Epoch:
        return self.epoch_in(self._reach())

    def epoch_in(self, contents: Contents) -> Epoch:
        now = self._db.now()
        if contents.run.server != self._db.server:
            contents.run = _Run(contents.run.number + 1, self._db.server, now)
            self._db.commit()
        left = max(0.0, contents.run.since + HOLD_OFF - now)
        return Epoch(contents.run.number, left, now, self._db.sealed_with, self._db.next_key)

    # -- the sealing key

    def appear(self, host: HostKeys) -> None:
        self._reach()
        self._db.hosts[host.name] = host

    def hosts(self) -> Sequence[HostKeys]:
        self._reach()
        return [host for _, host in sorted(self._db.hosts.items())]

    def propose(self, key: str) -> None:
        def propose() -> None:
            self._db.next_key = key

        self._write(propose)

    def adopt(self, key: str) -> bool:
        def adopt() -> bool:
            if self._db.next_key != key or any(key not in host.opens for host in self._db.hosts.values()):
                return False
            self._db.sealed_with, self._db.next_key = key, None
            return True

        return self._write(adopt)
