"""The hand-over of a login to another program: at every moment exactly one side may renew it."""

import contextlib
import shlex
from pathlib import Path
from typing import Final, get_args

from msgspec import Struct
from msgspec.structs import replace

from tokenferry.accounts._accounts import Accounts
from tokenferry.accounts._export import Limit, Target, exported, write_export
from tokenferry.credentials import OAuthToken
from tokenferry.errors import ChainCopied, StorageFailed, TokenferryError, TryLater, UsageError
from tokenferry.interchange import parse
from tokenferry.refresh import Journal
from tokenferry.secret import Fields
from tokenferry.stores import DISK, Disk, Document, FileLock, read_private_file, remove_leftovers

_RECORD: Final = "handed_over"
_LOCK_WAIT: Final = 60.0


class HandOver(Struct, frozen=True):
    """The target of a login; `refresh` is the sha256 of its refresh token, `at` is in seconds since 1970 UTC.

    It is recorded in the account's document before the file is written. From then on tokenferry doesn't renew it.
    """

    target: Target
    path: Path
    key: str | None
    refresh: str
    at: int

    def has_arrived(self) -> bool:
        """Whether the file holds the login. Raises `UnsafeFile` if the file can't be trusted."""
        try:
            entries = parse(read_private_file(self.path), self.target)
        except (FileNotFoundError, UsageError):  # no file, or another content
            return False
        tokens = (getattr(entry.credential, "refresh", None) for entry in entries)
        return any(token is not None and token.sha256 == self.refresh for token in tokens)

    def to_json(self) -> Fields:
        return Fields(target=self.target, path=str(self.path), key=self.key, refresh=self.refresh, at=self.at)


def pending_hand_over(document: Document) -> HandOver | None:
    """Return the hand-over in progress of the account's present login, or None."""
    fields, present = document.unknown.get(_RECORD), getattr(document.credential, "refresh", None)
    if not isinstance(fields, Fields) or fields.get("target") not in get_args(Target):
        return None
    if present is None or fields.get("refresh") != present.sha256:
        return None
    key = fields.get("key")
    return HandOver(
        target=fields["target"],
        path=Path(str(fields.get("path"))),
        key=key if isinstance(key, str) else None,
        refresh=present.sha256,
        at=fields["at"] if isinstance(fields.get("at"), int) else 0,
    )


def hand_over(
    accounts: Accounts,
    journal: Journal,
    name: str,
    *,
    target: Target,
    path: Path,
    key: str | None,
    locks: Path,
    machine: str,
    now: float,
    limit: Limit | None = None,
    disk: Disk = DISK,
) -> None:
    """Write the account's login with its refresh token to a file, to whose user it then belongs.

    The document first records the hand-over, then the file is written durably, and the caller removes the account. If
    the process is killed in between, tokenferry doesn't renew the login, and the same call completes the hand-over.
    Raises `UsageError` for a token family that isn't ours, `TryLater` while a refresh is unsettled, `ChainCopied`, and
    what `write_export` raises; then the login stays ours, unless the file holds it.
    """
    with accounts.store.exclusive(name, _LOCK_WAIT):
        document = accounts.store.read(name)
        begun = pending_hand_over(document)
        if begun is not None:
            _check_same(name, begun, path)
            if begun.has_arrived():
                with FileLock(path, locks).held(_LOCK_WAIT):
                    remove_leftovers(path, disk=disk)
                return
        token = _ours(document, journal, machine, is_begun=begun is not None)
        exported(target, token, key=key, with_chain=True)  # refuse what the format can't hold before any change
        assert token.refresh is not None
        record = HandOver(target, path, key, token.refresh.sha256, int(now))
        given = replace(
            document,
            account=replace(document.account, owner="external"),
            unknown=Fields(document.unknown, **{_RECORD: record.to_json()}),
        )
        accounts.store.swap(name, document.generation, given)
        try:
            write_export(path, target, token, key=key, with_chain=True, locks=locks, limit=limit, disk=disk)
        except TokenferryError as fault:
            with contextlib.suppress(TokenferryError):  # report the first error
                # Only a failing disk can fail after the file was in place.
                if not isinstance(fault, StorageFailed) or not record.has_arrived():
                    _take_back(accounts, name, replace(given, generation=document.generation + 1))
            raise


def take_back(accounts: Accounts, name: str) -> None:
    """Undo an interrupted hand-over. Raises `UsageError` without one, or if the file already holds the login."""
    with accounts.store.exclusive(name, _LOCK_WAIT):
        document = accounts.store.read(name)
        begun = pending_hand_over(document)
        if begun is None:
            raise UsageError(f"account {name!r}: its login is not being handed over, so there is nothing to take back")
        if begun.has_arrived():
            raise UsageError(
                f"account {name!r}: {begun.path} holds its login, which belongs to the user of that file; complete "
                f"it with: {completion(name, begun)}"
            )
        _take_back(accounts, name, document)


def completion(name: str, begun: HandOver) -> str:
    """Return the command that completes an interrupted hand-over."""
    key = f" --key {shlex.quote(begun.key)}" if begun.key else ""
    return f"tokenferry export {name} --to {begun.target} --with-refresh-token{key} {shlex.quote(str(begun.path))}"


def _take_back(accounts: Accounts, name: str, document: Document) -> None:
    ours = replace(
        document, account=replace(document.account, owner="tokenferry"), unknown=document.unknown.without(_RECORD)
    )
    accounts.store.swap(name, document.generation, ours)


def _check_same(name: str, begun: HandOver, path: Path) -> None:
    if begun.path != path:
        raise UsageError(
            f"account {name!r}: a hand-over to {begun.path} was begun; complete it with: {completion(name, begun)}; or "
            f"take it back with: tokenferry export {name} --take-back"
        )


def _ours(document: Document, journal: Journal, machine: str, *, is_begun: bool) -> OAuthToken:
    """Return the login, if it is ours and complete. Raises otherwise."""
    account, token = document.account, document.credential
    if not isinstance(token, OAuthToken) or token.refresh is None:
        raise UsageError(
            f"account {account.name!r} has no refresh token, so there is no login to hand over; leave "
            "--with-refresh-token out"
        )
    if account.owner != "tokenferry" and not is_begun:
        raise UsageError(
            f"account {account.name!r}: its token family is owned by {account.owner}, so it can't be handed over; "
            "leave --with-refresh-token out"
        )
    if document.machine not in {None, machine}:
        raise ChainCopied(
            f"account {account.name!r} was copied here from another machine, where its login may still be in use; if "
            f"it is not, say so with: tokenferry account confirm {account.name}"
        )
    attempt = journal.attempt(account.name)
    if attempt is not None and attempt.token == token.refresh.sha256:
        raise TryLater(
            f"account {account.name!r}: its last refresh is not settled, so it is unknown which token works; "
            f"run: tokenferry refresh {account.name}; then try again"
        )
    return token
