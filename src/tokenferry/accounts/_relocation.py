"""Moves accounts between the files of a home and a database: at every moment one side at most may renew a login."""

from typing import Final, Protocol

from msgspec import Struct
from msgspec.structs import replace

from tokenferry.accounts._hand_over import pending_hand_over
from tokenferry.errors import StorageFailed, TokenferryError, TryLater, UnknownAccount, UsageError
from tokenferry.refresh import Journal
from tokenferry.stores import Attaching, Document, Store

_LOCK_WAIT: Final = 60.0


class AccountPlace(Protocol):
    """Where accounts are, with what is on record of their refreshes. A `Backend` is one."""

    @property
    def store(self) -> Store: ...
    @property
    def journal(self) -> Journal: ...
    @property
    def machine(self) -> str:
        """Says in a document that its token family is in use here; no other place renews it."""
        ...


class MovedAccounts(Struct, frozen=True):
    """The names of those that were moved, and by name why others were left where they are."""

    moved: tuple[str, ...]
    left: dict[str, str]


def move_accounts(source: AccountPlace, target: AccountPlace) -> MovedAccounts:
    """Move every account whose document lies at the source. Repeat it after it was cut short.

    An account is copied as one in use elsewhere, which is never renewed, and read back. Then the source's document says
    that it is in use at the target, then the target's does, and the source's is removed. Raises `StorageFailed`.
    """
    moved: list[str] = []
    left: dict[str, str] = {}
    for name in source.store.names():
        try:
            _move(name, source, target)
        except StorageFailed:
            raise
        except TokenferryError as fault:
            left[name] = str(fault)
        else:
            moved.append(name)
    return MovedAccounts(tuple(moved), left)


def _move(name: str, source: AccountPlace, target: AccountPlace) -> None:
    if isinstance(source.store, Attaching) and source.store.is_attached(name):
        raise UsageError("its login is another program's, which stays on its machine")
    with source.store.exclusive(name, _LOCK_WAIT), target.store.exclusive(name, _LOCK_WAIT):
        document = source.store.read(name)
        if document.machine != target.machine:
            _check_movable(document, source)
            _copy(document, source, target)
            source.store.swap(name, document.generation, replace(document, machine=target.machine))
            document = replace(document, generation=document.generation + 1)
        there = target.store.read(name)
        if there.machine != target.machine:
            _check_settled(document, source)  # again, for a lock of the database may have lapsed
            if (failure := source.journal.failure(name)) is not None:
                target.journal.record_failure(name, failure)
            target.store.swap(name, there.generation, replace(there, machine=target.machine))
        source.store.swap(name, document.generation, None)
        source.journal.forget(name)


def _check_movable(document: Document, source: AccountPlace) -> None:
    name = document.account.name
    if document.machine not in {None, source.machine}:
        raise UsageError("it was copied from another machine, where its login may be in use")
    if pending_hand_over(document) is not None:
        raise UsageError(f"its export was cut short; finish it first with: tokenferry export {name}")
    _check_settled(document, source)


def _check_settled(document: Document, source: AccountPlace) -> None:
    name = document.account.name
    attempt, token = source.journal.attempt(name), getattr(document.credential, "refresh", None)
    if attempt is not None and attempt.may_be_spent and token is not None and attempt.token == token.sha256:
        raise TryLater(f"a refresh of it has no known outcome yet; settle that first with: tokenferry refresh {name}")


def _copy(document: Document, source: AccountPlace, target: AccountPlace) -> None:
    """Put a copy at the target, in place of one that was cut short, and read it back."""
    name = document.account.name
    copy = replace(document, machine=source.machine)
    try:
        there = target.store.read(name)
    except UnknownAccount:
        target.store.swap(name, None, copy)
    else:
        if there.machine != source.machine or there.account != document.account:
            raise UsageError("another account has its name there; remove one of the two")
        target.store.swap(name, there.generation, copy)
    written = target.store.read(name)
    if replace(written, generation=copy.generation) != copy:
        raise StorageFailed(f"account {name!r} was written, and reads otherwise; nothing was moved")
