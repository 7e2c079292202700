from pathlib import Path
from typing import Final

from tokenferry.credentials import OAuthToken
from tokenferry.refresh import AttemptState, FileJournal, RefreshAttempt
from tokenferry.sealing import SealKey
from tokenferry.stores import DISK, Disk, Seal

_SUFFIX: Final = ".attempt"
_SEPARATOR: Final = "~"
"""A character that no account's name contains."""
_KEPT: Final = 600.0
"""Seconds for which answers of another token family are kept, since a failover may lose the login that replaced it."""


class Spill:
    """This host's attempts and their answers on its own disk: sealed, synced, and written before the database has them.

    An answer outlives its publication, which a failover may lose. An entry is dropped when a token that doesn't follow
    from it is presented ten minutes later. An entry is a file of a `FileJournal`, named by account and attempt.
    """

    def __init__(self, folder: Path, *, seal: Seal, disk: Disk = DISK) -> None:
        self._folder = folder
        self._disk = disk
        self._journal = FileJournal(folder, disk=disk, seal=seal)

    def accounts(self) -> frozenset[str]:
        """Give the accounts with an entry."""
        return frozenset(name.partition(_SEPARATOR)[0] for name in self._entries())

    def attempts(self, account: str) -> list[RefreshAttempt]:
        """Give the account's entries. Raises the errors of reading a journal."""
        found = (self._journal.attempt(name) for name in self._entries() if name.startswith(account + _SEPARATOR))
        return [attempt for attempt in found if attempt is not None]

    def find(self, account: str, attempt: str) -> RefreshAttempt | None:
        return self._journal.attempt(_name(account, attempt))

    def begin(self, account: str, attempt: RefreshAttempt) -> None:
        """Write an entry with room for the answer. Raises `StorageFailed`, `NeedsUnlock`, `SealKeyLost`."""
        for other in self.attempts(account):
            follows = other.answer is not None and other.answer.refresh is not None
            successor = other.answer.refresh.sha256 if follows else None  # type: ignore[union-attr]  # it was seen
            if attempt.token not in {other.token, successor} and abs(attempt.at - other.at) > _KEPT:
                self.drop(account, other.id)
        self._journal.begin(_name(account, attempt.id), attempt)

    def sending(self, account: str, attempt: RefreshAttempt, at: float) -> None:
        self._journal.sending(_name(account, attempt.id), attempt, at)

    def answer(self, account: str, attempt: RefreshAttempt, token: OAuthToken) -> None:
        self._journal.answer(_name(account, attempt.id), attempt, token)

    def mark(self, account: str, attempt: RefreshAttempt, state: AttemptState) -> None:
        self._journal.mark(_name(account, attempt.id), attempt, state)

    def rewrite(self, account: str, key: SealKey | None) -> None:
        """Seal the account's answers with this key, or write them unencrypted. Raises what `attempts` does."""
        for name in self._entries():
            if name.startswith(account + _SEPARATOR):
                self._journal.rewrite(name, key)

    def drop(self, account: str, attempt: str) -> None:
        self._journal.forget(_name(account, attempt))

    def forget(self, account: str) -> None:
        """Remove the entries of a removed account."""
        for name in self._entries():
            if name.startswith(account + _SEPARATOR):
                self._journal.forget(name)

    def _entries(self) -> list[str]:
        names = (name for name in self._disk.names(self._folder) if not name.startswith("."))
        return [name.removesuffix(_SUFFIX) for name in names if name.endswith(_SUFFIX)]


def _name(account: str, attempt: str) -> str:
    return f"{account}{_SEPARATOR}{attempt}"
