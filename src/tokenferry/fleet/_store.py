import logging
import socket
import time
from collections.abc import Callable, Mapping, Sequence
from contextlib import AbstractContextManager, suppress
from typing import Final

from msgspec.structs import replace

from tokenferry.credentials import Credential, OAuthToken
from tokenferry.errors import (
    Conflict,
    CorruptFile,
    NeedsUnlock,
    SealKeyLost,
    StorageFailed,
    TokenferryError,
    UnknownAccount,
    UnsafeFile,
    UsageError,
)
from tokenferry.fleet._heartbeat import Heartbeat
from tokenferry.fleet._mirror import SERVE_STALE, AccountMirror
from tokenferry.fleet._row_lock import RowLock
from tokenferry.fleet._spill import Spill
from tokenferry.fleet._tables import CLEAR, AccountRecord, Epoch, HostKeys, Order, Tables, withdraw
from tokenferry.refresh import RefreshAttempt
from tokenferry.sealing import SealKey
from tokenferry.secret import HiddenBytes, parse_object
from tokenferry.stores import (
    Document,
    Header,
    ProcessIdentity,
    Seal,
    SealedDocument,
    check_account_name,
    held,
    parse_sealed,
)

logger = logging.getLogger(__name__)

_APPEARS_EVERY: Final = 30.0


class FleetStore:
    """One row per account, with the same bytes as a file: sealed unless `unsealed` is allowed.

    Each process keeps the rows that it read last. Together with the spill they are the copies that a failover can't
    lose.
    """

    def __init__(
        self,
        tables: Tables,
        seal: Seal,
        spill: Spill,
        *,
        unsealed: bool = False,
        serve_stale: float = SERVE_STALE,
        monotonic: Callable[[], float] = time.monotonic,
        now: Callable[[], float] = time.time,
        is_gone: Callable[[ProcessIdentity], bool] = ProcessIdentity.is_gone,
        host: str = "",
    ) -> None:
        """`host` is this host's name in the database, which records the keys that it can open; empty for no record."""
        self._tables = tables
        self._seal = seal
        self._spill = spill
        self._unsealed = unsealed
        self._monotonic = monotonic
        self._is_gone = is_gone
        self._known: dict[str, AccountRecord] = {}
        self._unreadable: set[str] = set()
        """Accounts whose spill entries couldn't be replayed, and were logged."""
        self._host = host
        self._appeared: tuple[HostKeys, float] | None = None
        self.heartbeat = Heartbeat(tables, self.replay, self._appear, monotonic=monotonic, now=now)
        self.mirror = AccountMirror(self, tables, serve_stale=serve_stale, monotonic=monotonic)

    @property
    def seal(self) -> Seal:
        return self._seal

    def names(self) -> list[str]:
        """Give the accounts, sorted. Raises `StorageFailed`."""
        return self._tables.names()

    def place(self, name: str) -> str:
        return f"account {check_account_name(name)} in the database"

    def read(self, name: str) -> Document:
        """Give the current document. Raises `StorageFailed`, and what a store of files does."""
        return self.document_of(self._record(name))

    def header(self, name: str) -> Header | None:
        """Give the unencrypted part of a sealed document; None if it isn't sealed."""
        return self.header_of(self._record(name))

    def swap(self, name: str, expected: int | None, new: Document | None) -> None:
        """Replace the document if its generation is still `expected`.

        Raises `Conflict`, `StorageFailed`, `UsageError`. After `StorageFailed` it is unknown whether it was replaced.
        """
        if new is None:
            is_done = self._tables.remove(name, expected) if expected is not None else name not in self.names()
        elif expected is None:
            if self._host:
                self.heartbeat.measure()  # with which key new accounts are sealed now
            self._tables.insert(self._closed(replace(new, generation=1)))
            is_done = True
        else:
            is_done = self._tables.replace(self._closed(replace(new, generation=expected + 1)), expected)
        if not is_done:
            raise Conflict(f"{self.place(name)} was changed by another program; nothing was written")
        self.mirror.wrote()

    def publish(self, name: str, expected: int, new: Document, presented: str) -> None:
        """Replace the presented refresh token (sha256) by the renewed one, and no other.

        The generation isn't enough: after a failover it may belong to another document. Raises what `swap` does.
        """
        if not self._tables.replace(self._closed(replace(new, generation=expected + 1)), expected, presented):
            raise Conflict(f"{self.place(name)} was changed by another program; nothing was written")
        self.mirror.wrote()

    def reseal(self, name: str, key: SealKey | None, *, accept_clear: bool = False) -> bool:
        """Seal the account's row with this key, or write it unencrypted; False if it is so already.

        Needs `exclusive(name)`. Raises `Conflict` if another program wrote it at the same time, and what `read` does,
        except for an accepted unencrypted one.
        """
        row = self._record(name)
        header = self.header_of(row)
        if (header.key if header is not None else None) == (key.id if key is not None else None):
            return False
        document = self.document_of(row, accept_clear=accept_clear)
        record = _record_of(replace(document, generation=row.generation + 1), key)
        if not self._tables.replace(record, row.generation, row.refresh):
            raise Conflict(f"{self.place(name)} was changed by another program; nothing was written")
        self._seal.note_used(name, key)
        self.mirror.wrote()
        return True

    def can_open(self, epoch: Epoch) -> frozenset[str]:
        """Give those keys of the database and of this host's marker that are here; `CLEAR` if unencrypted."""
        named = {epoch.sealed_with, epoch.next_key}
        with suppress(CorruptFile, UnsafeFile):  # of the marker; `doctor` reports it
            named |= {key for key, _ in getattr(self._seal.marker(), "keys", ())}
        keys = frozenset(key for key in named if key is not None and key != CLEAR and self._seal.finds(key))
        return keys | {CLEAR} if self._unsealed else keys

    def _appear(self, epoch: Epoch) -> None:
        """Record the keys that this host has: after a change, and every half minute."""
        if not self._host:
            return
        own = HostKeys(self._host, socket.gethostname()[:80], self.can_open(epoch))
        known, at = self._appeared or (None, 0.0)
        if own != known or self._monotonic() - at >= _APPEARS_EVERY:
            self._tables.appear(own)
            self._appeared = own, self._monotonic()

    def discard(self, name: str) -> None:
        """Remove a document that can't be read. Raises `Conflict` for a readable one."""
        try:
            self.read(name)
        except (CorruptFile, UnsafeFile):
            self._tables.remove(name, None)
            self.mirror.wrote()
        except UnknownAccount:
            return
        else:
            raise Conflict(f"{self.place(name)} can be read; remove it by its generation")

    def lock(self, name: str) -> RowLock:
        """Give a new lock of the account, not yet held."""
        return RowLock(name, self._tables, self.heartbeat, monotonic=self._monotonic)

    def exclusive(self, name: str, timeout: float) -> AbstractContextManager[None]:
        """Hold the account's lock for a block. Raises `LockTimeout`, `StorageFailed`."""
        return held(self.lock(name), timeout)

    def stamps(self) -> Mapping[str, Order]:
        """Give, by account, a value that changes whenever its document does."""
        self.heartbeat.start()
        return self._tables.stamps()

    def replay(self) -> None:
        """Write again what this host has and a failover may have lost. Safe at any time. Raises `StorageFailed`.

        These are documents that this process read, then answers and attempts in the spill whose token is still the
        account's. The outcome of attempts whose process has ended is recorded. An account that can't be read is logged
        and left out.
        """
        stamps = self._tables.stamps() if self._known else {}
        for record in list(self._known.values()):
            if stamps.get(record.name, record.order) < record.order:
                self._tables.put_forward(record)
        for name in self._spill.accounts():
            try:
                self._replay_spill(name)
            except StorageFailed:
                raise
            except TokenferryError as fault:
                level = logging.DEBUG if name in self._unreadable else logging.WARNING
                logger.log(level, "account %s: what this host has on its disk is not put forward: %s", name, fault)
                self._unreadable.add(name)
            else:
                self._unreadable.discard(name)

    def _replay_spill(self, name: str) -> None:
        attempts = [self._concluded(name, attempt) for attempt in self._spill.attempts(name)]
        while (row := self._tables.account(name)) is not None and self._put_answer_forward(row, attempts):
            continue
        for attempt in attempts:
            if row is not None and attempt.token == row.refresh and attempt.may_be_spent:
                self._tables.reassert(name, replace(attempt, state="open") if attempt.state == "begun" else attempt)

    def _concluded(self, name: str, attempt: RefreshAttempt) -> RefreshAttempt:
        """Give the attempt; if its process has ended, record that it was never sent, or that its answer is lost."""
        if attempt.answer is None and attempt.state in {"begun", "open"} and self._is_gone(attempt.process):
            attempt = replace(attempt, state="closed" if attempt.state == "begun" else "uncertain")
            self._spill.mark(name, attempt, attempt.state)
        if attempt.state == "closed":
            withdraw(self._tables, name, attempt)  # each time, for its commit may be late
        elif attempt.state in {"uncertain", "denied"}:  # the database may have been away when that became known
            self._tables.mark(name, attempt.id, attempt.state)
        return attempt

    def _put_answer_forward(self, row: AccountRecord, attempts: Sequence[RefreshAttempt]) -> bool:
        """Publish the answer to a presentation of the row's token; tell whether there was one."""
        for attempt in attempts:
            if attempt.answer is None or attempt.token != row.refresh or attempt.state in {"answered", "uncertain"}:
                continue
            renewed = replace(self.document_of(row), credential=attempt.answer, generation=row.generation + 1)
            if self._tables.replace(self._closed(renewed, row.epoch), row.generation, attempt.token):
                logger.warning("account %s: the answer to attempt %s was put forward", row.name, attempt.id)
                return True
        return False

    def _record(self, name: str) -> AccountRecord:
        row = self._tables.account(check_account_name(name))
        if row is None:
            raise UnknownAccount.among("account", name, self.names(), "tokenferry account list")
        self.remember(row)
        return row

    def remember(self, row: AccountRecord) -> None:
        """Keep the row. If a later one was read before, a failover has lost that, and it is written again."""
        if (known := self._known.get(row.name)) is None or row.order >= known.order:
            self._known[row.name] = row

    def header_of(self, row: AccountRecord) -> Header | None:
        """Give the unencrypted part of a row's document."""
        sealed = self._parsed(row)
        return None if sealed is None else sealed.header

    def _parsed(self, row: AccountRecord) -> SealedDocument | None:
        fields = parse_object(row.body)
        return None if fields is None else parse_sealed(row.body, fields, row.name, self.place(row.name))

    def document_of(self, row: AccountRecord, *, accept_clear: bool = False) -> Document:
        """Open a row. Raises what a store of files does."""
        place = self.place(row.name)
        sealed = self._parsed(row)
        if sealed is not None:
            key = self._key_of(place, sealed.header.key)
            self._seal.note_used(row.name, key)
            return sealed.open(key, place)
        if not (self._unsealed or accept_clear):
            raise CorruptFile(
                f"{place} is in clear, so anybody who can write there may have put it there, and it is not used; allow "
                "it with [store] unsealed = true"
            )
        self._seal.note_used(row.name, None)
        return Document.from_bytes(row.body, row.name, place)

    def _key_of(self, place: str, key: str) -> SealKey:
        try:
            return self._seal.key(key)
        except (NeedsUnlock, SealKeyLost) as fault:
            raise type(fault)(
                f"{place} is sealed with the key {key}, which this host can't open; copy that key's file from a host "
                "that can (tokenferry store status says which can't), and name it with TOKENFERRY_SEAL_KEY_FILE"
            ) from None

    def _closed(self, document: Document, epoch: int = 0) -> AccountRecord:
        name = document.account.name
        used = self._seal.used(name)
        key = self._named(self._seal.for_writing(used, is_new=used is None))
        if key is None and not self._unsealed:
            raise UsageError(
                "accounts in a database are sealed, and this host has no key for that; run: tokenferry encryption "
                "enable (on each host with the same key file), or set [store] unsealed = true"
            )
        return _record_of(document, key, epoch)

    def _named(self, own: SealKey | None) -> SealKey | None:
        """Give the key that the database names; this host's own if it names none or can't be asked."""
        named = self.heartbeat.sealed_with
        if named is None or (own is None and not self._unsealed):
            return own
        if named == CLEAR:
            return None if self._unsealed else own
        try:
            return self._seal.key(named)
        except TokenferryError as fault:  # what is written may be a grant's
            logger.warning("the key that seals accounts can't be had: %s", fault)
            return own


def _record_of(document: Document, key: SealKey | None, epoch: int = 0) -> AccountRecord:
    body = HiddenBytes(document.to_bytes() if key is None else SealedDocument.seal(document, key).to_bytes())
    return AccountRecord(document.account.name, document.generation, _presentable(document.credential), body, epoch)


def _presentable(credential: Credential) -> str | None:
    """Give the sha256 of the refresh token; None without one."""
    is_renewed = isinstance(credential, OAuthToken) and credential.refresh is not None
    return credential.refresh.sha256 if is_renewed else None  # type: ignore[union-attr]  # it was seen
