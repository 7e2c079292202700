import contextlib
import os
import time
from collections.abc import Callable, Iterable, Mapping, Sequence
from pathlib import Path
from types import MappingProxyType
from typing import ClassVar, Final

from msgspec.structs import replace

from tokenferry.accounts._changes import AccountChanges
from tokenferry.accounts._implicit import ENVIRONMENT
from tokenferry.accounts._key_sources import KeySourceSettings, key_sources
from tokenferry.accounts._login import ORIGIN, has_credential, without_identity
from tokenferry.background import Pending
from tokenferry.credentials import ApiKey, Credential
from tokenferry.errors import CorruptFile, NeedsUnlock, TokenferryError, UnknownAccount, UnsafeFile, UsageError
from tokenferry.secret import Concealing, Fields, Secret
from tokenferry.settings import AccountSettings
from tokenferry.stores import (
    FETCHED,
    Account,
    Attaching,
    Document,
    Mirror,
    Mirrored,
    Sealable,
    Store,
    check_account_name,
    create_private_file,
    read_private_file,
    remove_file,
    replace_private_file,
)

_LOCK_WAIT: Final = 60.0
_LIMIT: Final = 1024
_CHOSEN: Final = "chosen"
"""The second line of a record of the default provider that the operator chose."""


class AccountList(Concealing, frozen=True):
    """The accounts in order (priority, then creation), and those with an unreadable document, with the reason."""

    hidden: ClassVar = ("stored",)

    accounts: tuple[Account, ...]
    broken: Mapping[str, TokenferryError]
    locked: Mapping[str, TokenferryError] = MappingProxyType({})
    """Accounts in the list whose sealed document can't be opened now; their labels are unknown."""
    in_use: str | None = None
    """The account that `use` picked, even if it doesn't exist."""
    default_provider: str | None = None
    """The recorded provider of unmapped models; without a record, the one that would be decided now.

    Empty if the record can't be trusted.
    """
    stored: tuple[Account, ...] = ()
    """The accounts of the store, as they are stored."""

    @property
    def has_default_account(self) -> bool:
        """Whether the default provider has an account."""
        return any(account.provider == self.default_provider for account in self.accounts)


class Accounts:
    """All accounts: those of the store, and the implicit ones of the environment and the configuration.

    An implicit account of the environment counts only if no other account exists, if it is named, or if the default
    provider has no other account. `decide` gives the default provider while none is recorded.
    """

    def __init__(
        self,
        store: Store,
        *,
        implicit: Mapping[str, Document] | None = None,
        sources: Iterable[KeySourceSettings] = (),
        overrides: Mapping[str, AccountSettings] | None = None,
        active: Path | None = None,
        default_provider: Path | None = None,
        decide: Callable[[Sequence[Account]], str | None] = lambda _: None,
        now: Callable[[], float] = time.time,
    ) -> None:
        self._store = store
        self.known: Store | Mirror = store.mirror if isinstance(store, Mirrored) else store
        """What a request's way reads: the store, or what this process knows of one that takes its time."""
        self._now = now
        self._implicit = MappingProxyType(dict(implicit or {}))
        self._sources = key_sources(sources, {}, now)
        self.overrides = overrides or {}
        """The configuration's overrides of stored accounts, by name."""
        self._active = active
        self._default_provider = default_provider
        self._decide = decide

    @property
    def store(self) -> Store:
        return self._store

    def adopt(
        self,
        implicit: Mapping[str, Document],
        overrides: Mapping[str, AccountSettings],
        sources: Iterable[KeySourceSettings] = (),
    ) -> None:
        """Replace the implicit accounts, the overrides and the key sources."""
        self._implicit = MappingProxyType(dict(implicit))
        self._sources = key_sources(sources, self._sources, self._now)
        self.overrides = overrides

    def effective(self, account: Account) -> Account:
        """Return the account with the priority and pause of config.toml, and without an expired pause."""
        if account.paused_until is not None and account.paused_until <= self._now():
            account = replace(account, paused=False, paused_until=None)
        override = self.overrides.get(account.name)
        if override is None:
            return account
        if override.paused is not None:
            account = replace(account, paused=override.paused, paused_until=None)
        return account if override.priority is None else replace(account, priority=override.priority)

    def read(self, name: str, *, known: bool = False) -> Document:
        """Return an account's document; blocks while a key source fetches its key.

        With `known` as this process knows it, so that no database is waited for. Raises `UnknownAccount`, `UnsafeFile`,
        `CorruptFile`, `KeyCommandFailed`, and `StorageFailed` where the store is a database.
        """
        try:
            return (self.known if known else self._store).read(name)
        except UnknownAccount:
            if (document := self._implicit.get(name)) is not None:
                return document
            if (source := self._sources.get(name)) is None:
                raise
        return source.document()

    def pending(self, name: str, refused: Secret | None = None) -> Pending[ApiKey] | None:
        """Return the run that fetches the account's key and that `read` would wait for, or None.

        A key that the provider `refused` is fetched again.
        """
        source = self._sources.get(name)
        return None if source is None or name in self.known.names() else source.pending(refused)

    def _unstored(self, name: str) -> Account | None:
        """Return the account of that name if it isn't in the store."""
        if name in self._store.names():
            return None
        if (document := self._implicit.get(name)) is not None:
            return document.account
        return self._sources[name].account if name in self._sources else None

    def listing(self, *, known: bool = False) -> AccountList:
        """All accounts. With `known` as `read` says."""
        return self.read_all(known=known)[0]

    def read_all(self, *, known: bool = False) -> tuple[AccountList, Mapping[str, Document]]:
        """Return the listing, and the documents of the store that were read for it, by name."""
        store = self.known if known else self._store
        accounts: list[Account] = []
        documents: dict[str, Document] = {}
        broken: dict[str, TokenferryError] = {}
        locked: dict[str, TokenferryError] = {}
        for name in store.names():
            try:
                documents[name] = store.read(name)
                accounts.append(documents[name].account)
            except UnknownAccount:
                continue  # removed since the names were read
            except NeedsUnlock as fault:
                account = _in_clear(store, name)
                if account is None:
                    broken[name] = fault
                else:
                    accounts.append(account)
                    locked[name] = fault
            except TokenferryError as fault:
                broken[name] = fault
        in_use = None
        with contextlib.suppress(TokenferryError):  # `choose` raises it where it matters
            in_use = self.active()
        return self._listed(accounts, broken, locked, in_use, self._recorded()), documents

    def names(self) -> list[str]:
        """Return the names of all accounts, including implicit and unreadable ones."""
        return sorted({*self._store.names(), *self._implicit, *self._sources})

    def relisted(self, listing: AccountList) -> AccountList:
        """Return the listing with the present implicit accounts and overrides; reads nothing."""
        return self._listed(
            list(listing.stored),
            listing.broken,
            listing.locked,
            listing.in_use,
            listing.default_provider,
        )

    def _listed(
        self,
        accounts: list[Account],
        broken: Mapping[str, TokenferryError],
        locked: Mapping[str, TokenferryError],
        in_use: str | None,
        default: str | None,
    ) -> AccountList:
        stored = tuple(accounts)
        taken = {*broken, *(account.name for account in accounts)}
        implicit = [document.account for name, document in self._implicit.items() if name not in taken]
        implicit += [one.account for name, one in self._sources.items() if name not in {*taken, *self._implicit}]
        accounts += [account for account in implicit if account.store != ENVIRONMENT]
        if not accounts and not broken:
            accounts += implicit
        elif default and all(account.provider != default for account in accounts):
            accounts += [one for one in implicit if one.store == ENVIRONMENT and one.provider == default]
        accounts = [*map(self.effective, accounts)]
        accounts.sort(key=lambda account: (account.priority, account.created_at, account.name))
        marked = tuple(replace(one, in_use=True) if one.name == in_use else one for one in accounts)
        return AccountList(
            marked,
            MappingProxyType(dict(broken)),
            MappingProxyType(dict(locked)),
            in_use,
            self._decide(accounts) if default is None else default,
            stored,
        )

    def _recorded(self) -> str | None:
        try:
            return self.default_provider()
        except UnsafeFile:
            return ""  # no other provider may take its place; `doctor` names the file

    def default_provider(self) -> str | None:
        """Return the recorded provider of unmapped models, if any. Raises `UnsafeFile`."""
        return next(iter(self._default_record()), None)

    def set_default_provider(self, name: str) -> None:
        """Record the operator's choice, replacing any record. Raises `StorageFailed`, `UnsafeFile`."""
        if self._default_provider is not None:
            replace_private_file(self._default_provider, f"{name}\n{_CHOSEN}\n".encode())

    def settle_default_provider(self, name: str) -> None:
        """Record what the accounts decided, if nothing is recorded. Raises `StorageFailed`, `UnsafeFile`."""
        if self._default_provider is not None:
            with contextlib.suppress(UsageError):  # another process was first
                create_private_file(self._default_provider, f"{name}\n".encode())

    def unsettle_default_provider(self) -> None:
        """Forget the record, unless the operator chose it. Raises `UnsafeFile`."""
        if self._default_provider is not None and _CHOSEN not in self._default_record():
            self._default_provider.unlink(missing_ok=True)

    def _default_record(self) -> list[str]:
        return (_name_in(self._default_provider) or "").splitlines() if self._default_provider else []

    def choose(self, name: str | None) -> str:
        """Choose the account: the one named, else TOKENFERRY_ACCOUNT, else the one in `use`, else the only one.

        Raises `UnknownAccount`, which lists the accounts.
        """
        if name := name or os.environ.get("TOKENFERRY_ACCOUNT") or self.active():
            return name
        listing = self.listing(known=True)
        names = [account.name for account in listing.accounts if account.store != ENVIRONMENT]
        names += listing.broken
        names = names or [account.name for account in listing.accounts][:1]
        if len(names) == 1:
            return names[0]
        if not names:
            raise UnknownAccount(
                "there is no account yet; add one with: tokenferry account add NAME --provider anthropic"
            )
        raise UnknownAccount(
            f"there are several accounts: {', '.join(sorted(names))}; name one, or pick one with: tokenferry use NAME"
        )

    def stand_ins(self, name: str | None) -> list[str]:
        """Return the accounts that may replace the one that `choose` returns: those of its provider, in order.

        None if the account was pinned by a name or TOKENFERRY_ACCOUNT, and not picked by `use`.
        """
        if name or os.environ.get("TOKENFERRY_ACCOUNT"):
            return []
        accounts = self.listing(known=True).accounts
        providers = [one.provider for one in accounts if one.in_use]
        return [one.name for one in accounts if one.provider in providers and not one.in_use]

    def active(self) -> str | None:
        """Return the account in `use`, if any."""
        return None if self._active is None else _name_in(self._active)

    def use(self, name: str) -> None:
        """Make an account the default one. Raises `UnknownAccount`."""
        assert self._active is not None
        self.read(name)
        replace_private_file(self._active, f"{name}\n".encode("ascii"))

    def add(
        self,
        account: Account,
        credential: Credential,
        *,
        machine: str | None,
        replacing: bool = False,
        origin: Fields | None = None,
    ) -> bool:
        """Store an account; True if it replaced one.

        Raises `UsageError` when the name is taken, and for a login that another account has: each would log the other
        out. `origin` is where it was imported from, for its document.
        """
        name = check_account_name(account.name)
        if account.kind != credential.kind:
            raise UsageError(f"account {name!r} takes an {account.kind}, and an {credential.kind} was given")
        self._check_has_one_account(
            name, credential, f"or log in once more with: tokenferry login {name} --provider {account.provider}"
        )
        account = replace(account, created_at=int(account.created_at))
        with self._store.exclusive(name, _LOCK_WAIT):
            old = self._find(name)
            if old is None:
                unknown = Fields() if origin is None else Fields({ORIGIN: origin})
                self._store.swap(name, None, Document(account, credential, machine=machine, unknown=unknown))
                return False
            if not replacing:
                raise UsageError(f"account {name!r} exists already; give --replace to replace it")
            _check_is_ours(old)
            merged = replace(
                account,
                labels={**without_identity(old.account.labels), **account.labels},
                priority=old.account.priority,
                created_at=old.account.created_at,
                max_age=old.account.max_age,
                paused=old.account.paused,
                paused_until=old.account.paused_until,
            )
            new = Document(merged, credential, machine=machine, unknown=old.unknown)
            self._store.swap(name, old.generation, new)
            return True

    def holders(self, credential: Credential, *, besides: str = "") -> list[str]:
        """Return the stored and attached accounts that have this credential; of a login, its refresh token."""
        return [n for n, one in self.read_all()[1].items() if n != besides and has_credential(one, credential)]

    def _check_has_one_account(self, name: str, credential: Credential, cure: str) -> None:
        """Raise `UsageError` for a login that another account has."""
        if getattr(credential, "refresh", None) and (holders := self.holders(credential, besides=name)):
            raise UsageError(
                f"account {holders[0]!r} has this login already, and two accounts with one login log each other out; "
                f"use that account, {cure}"
            )

    def attach(self, account: Account, *, check: Callable[[Document], None] = lambda _: None) -> Document:
        """Attach an account whose login is in another program's store, and return its document.

        If `check` raises, nothing is attached. Raises `UsageError` when the name is taken, for a login that another
        account has, and when stores can't be attached here; `NeedsLogin` when there is no login.
        """
        if not isinstance(self._store, Attaching):
            raise UsageError("accounts can be attached to a home of files alone")
        check_account_name(account.name)
        self._store.attach(account)
        try:
            document = self._store.read(account.name)
            check(document)
            self._check_has_one_account(
                account.name,
                document.credential,
                "or remove it first with: tokenferry account remove NAME --keep-remote",
            )
        except TokenferryError:
            self._store.detach(account.name)
            raise
        return document

    def remove(self, name: str) -> None:
        """Remove an account, even an unreadable one. Raises `UnknownAccount`, `UsageError`."""
        if (account := self._unstored(name)) is not None:
            raise UsageError(f"account {name!r} comes from the {_origin(account)}; remove it there")
        if isinstance(self._store, Attaching) and self._store.is_attached(name):
            self._store.detach(name)
        else:
            self._remove_stored(name)
        if self._active is not None and self.active() == name:
            remove_file(self._active)

    def _remove_stored(self, name: str) -> None:
        with self._store.exclusive(name, _LOCK_WAIT):
            try:
                self._store.swap(name, self._store.read(name).generation, None)
            except (CorruptFile, UnsafeFile):
                self._store.discard(name)

    def confirm(self, name: str, machine: str) -> None:
        """Record that a copied document's token family is used only here. Raises `UnknownAccount`."""
        with self._store.exclusive(name, _LOCK_WAIT):
            document = self._store.read(name)
            _check_is_ours(document)
            self._store.swap(name, document.generation, replace(document, machine=machine))

    def amend(self, name: str, changes: AccountChanges) -> Account:
        """Change an account's settings other than its credential, and return it.

        Raises `UnknownAccount`, and `UsageError` for a change that this account doesn't allow.
        """
        if (unstored := self._unstored(name)) is not None:
            raise UsageError(f"account {name!r} comes from the {_origin(unstored)}; change it there")
        changes.check(self._now())
        with self._store.exclusive(name, _LOCK_WAIT):
            document = self._store.read(name)
            if changes.max_age is not None:
                _check_is_ours(document)
                if document.account.kind not in {"api-key", "setup-token"}:
                    raise UsageError(
                        f"account {name!r} is a login, whose tokens are renewed; --max-age is for API keys and setup "
                        "tokens"
                    )
            account = changes.applied(document.account)
            if account == document.account:
                return account
            if isinstance(self._store, Attaching) and self._store.is_attached(name):
                self._store.amend(account)
            else:
                self._store.swap(name, document.generation, replace(document, account=account))
            return account

    def _find(self, name: str) -> Document | None:
        try:
            return self._store.read(name)
        except UnknownAccount:
            return None


def _in_clear(store: Store | Mirror, name: str) -> Account | None:
    """What is in clear of a sealed account."""
    try:
        header = store.header(name) if isinstance(store, Sealable | Mirror) else None
    except TokenferryError:
        return None
    return None if header is None else header.account


def _origin(account: Account) -> str:
    return f"{account.store} in config.toml" if account.store in FETCHED else account.store


def _name_in(path: Path) -> str | None:
    try:
        return read_private_file(path, max_bytes=_LIMIT).decode("utf-8", "replace").strip() or None
    except FileNotFoundError:
        return None


def _check_is_ours(document: Document) -> None:
    """Raise for an attached account: only the program that owns its store may change it."""
    account = document.account
    if account.store != "file":
        raise UsageError(
            f"account {account.name!r} is attached to the login of {account.store}, which changes it itself; log in "
            f"there, or detach it first with: tokenferry account remove {account.name}"
        )
