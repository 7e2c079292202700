import threading
import time
from collections.abc import Callable, Mapping
from contextlib import suppress
from typing import TYPE_CHECKING, Final

from tokenferry.background import after_fork_in_child
from tokenferry.errors import StorageFailed, StoreAway, UnknownAccount
from tokenferry.fleet._tables import AccountRecord, Order, Tables
from tokenferry.stores import Document, Follow, Header

if TYPE_CHECKING:
    from tokenferry.fleet._store import FleetStore

SERVE_STALE: Final = 900.0


class AccountMirror:
    """The accounts as this process knows them: a `Mirror`. Sealed documents stay sealed in it.

    Before the first `refresh` every method asks the store. A gateway learns of changes through `follow`; other
    processes ask at each `stamps`. While the database is away the last content is used, for `serve_stale` seconds.
    """

    def __init__(
        self,
        store: "FleetStore",
        tables: Tables,
        *,
        serve_stale: float = SERVE_STALE,
        monotonic: Callable[[], float] = time.monotonic,
    ) -> None:
        self._store = store
        self._tables = tables
        self._serve_stale = serve_stale
        self._monotonic = monotonic
        self._rows: Mapping[str, AccountRecord] | None = None
        self._read_at = monotonic()
        self._is_stale = False
        self._changed: Callable[[], object] = lambda: None
        self._reset()
        after_fork_in_child(self._reset)

    def _reset(self) -> None:
        self._reading = threading.Lock()
        self._is_followed, self._is_due = False, True

    def follow(self, follow: Follow) -> None:
        """Let `follow` report changed accounts, if it can."""
        self._is_followed = follow("accounts", self.refresh, self.forget)
        self._is_due = True  # something may have changed just before

    def notify(self, changed: Callable[[], object]) -> None:
        """Ask for a call of `changed`, on another thread, after each change that was read."""
        self._changed = changed

    def refresh(self) -> None:
        """Read the changes since the last time. Raises `StorageFailed`."""
        with self._reading:
            before = self._rows or {}
            self._is_due = False
            stamps = self._tables.stamps()
            rows = {name: row for name, row in before.items() if stamps.get(name) == row.order}
            if lacking := stamps.keys() - rows.keys():
                rows |= {row.name: row for row in self._tables.accounts(lacking)}
            for name in lacking & rows.keys():
                self._store.remember(rows[name])
            self._rows, self._read_at, self._is_stale = rows, self._monotonic(), False
        if rows != before:
            self._changed()

    def wrote(self) -> None:
        """Show what this process has written, at once if the database can report it."""
        if self._rows is not None:
            with suppress(StorageFailed):
                self.refresh()

    def forget(self) -> None:
        """Serve nothing any more, because later changes are unknown."""
        self._rows, self._is_stale = {}, True
        self._changed()

    def stamps(self) -> Mapping[str, Order]:
        self._store.heartbeat.start()
        if self._is_due or not self._is_followed:
            try:
                self.refresh()
            except StorageFailed:
                self._is_due = True
                if self._is_stale or self._monotonic() - self._read_at <= self._serve_stale:
                    raise
                self.forget()
        return {name: row.order for name, row in (self._rows or {}).items()}

    def names(self) -> list[str]:
        rows = self._current()
        return self._store.names() if rows is None else sorted(rows)

    def read(self, name: str) -> Document:
        row = self._row(name)
        return self._store.read(name) if row is None else self._store.document_of(row)

    def header(self, name: str) -> Header | None:
        row = self._row(name)
        return self._store.header(name) if row is None else self._store.header_of(row)

    def _current(self) -> Mapping[str, AccountRecord] | None:
        if self._is_stale:
            raise StoreAway(
                f"the database has been away for more than {self._serve_stale:g} s, so the accounts it has aren't "
                "known; see: tokenferry store status"
            )
        return self._rows

    def _row(self, name: str) -> AccountRecord | None:
        rows = self._current()
        if rows is None:
            return None
        if name not in rows:
            raise UnknownAccount.among("account", name, sorted(rows), "tokenferry account list")
        return rows[name]
