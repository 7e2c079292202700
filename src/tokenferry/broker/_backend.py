"""The storage that a broker shares with other processes: accounts, journal and state."""

import logging
import random
import time
from collections.abc import Callable, Collection, Hashable, Iterator
from contextlib import AbstractContextManager, contextmanager, suppress
from functools import partial
from typing import TYPE_CHECKING, Final, Protocol

from tokenferry.accounts import Accounts, Sealing, SealResult, SealState, machine_id
from tokenferry.broker._store_factory import PendingMove, open_attached
from tokenferry.databases import has_state, open_state
from tokenferry.errors import TokenferryError, UsageError
from tokenferry.manifest import depend_on, doubt
from tokenferry.refresh import FileJournal, Journal, MemoryJournal
from tokenferry.sealing import KeyPlace
from tokenferry.settings import Home, RefreshSettings, StoreSettings
from tokenferry.stores import AttachedStore, FileStore, ProcessIdentity, Seal, Sealable, Store

if TYPE_CHECKING:
    from tokenferry.state import State  # brings SQLite, which few things here need

logger = logging.getLogger(__name__)

_ADVISORY: Final = 600.0
"""Seconds that a token of several hosts has left when one of them refreshes it early."""


class Backend(Protocol):
    """Stores accounts, journal and state, and identifies the processes that share them."""

    @property
    def home(self) -> Home | None:
        """This host's folder; None for a program with a store of its own."""
        ...

    @property
    def store(self) -> Store: ...
    @property
    def journal(self) -> Journal: ...
    @property
    def seal(self) -> Seal | None: ...
    @property
    def machine(self) -> str:
        """The name that documents record as the place where a token family is used."""
        ...

    def now(self) -> float:
        """The clock shared by all processes with these accounts, in seconds since 1970 UTC."""
        ...

    def process(self) -> ProcessIdentity:
        """This process's identity; called again after a fork."""
        ...

    def is_gone(self, process: ProcessIdentity) -> bool:
        """True only if the process has provably ended."""
        ...

    def state(self) -> "AbstractContextManager[State | None]":
        """Open cooldowns and keys within a block; None if there is no state yet. Raises `StorageFailed`."""
        ...


def refresh_settings(store: StoreSettings) -> RefreshSettings:
    """When logins are refreshed: earlier where several hosts share them, and not by all of them at once.

    So a hold-off, a reconnection or a cut-off host passes while the old token serves.
    """
    if not store.url:
        return RefreshSettings()
    jitter = random.uniform(0.8, 1.0)  # noqa: S311  # it spreads hosts
    return RefreshSettings(advisory=_ADVISORY * jitter, orphan_wait=store.orphan_wait)


class GivenBackend:
    """A program's own store and journal, shared at most with processes of this machine."""

    def __init__(self, store: Store, journal: Journal | None = None, home: Home | None = None) -> None:
        self.store = store
        self.seal = store.seal if isinstance(store, Sealable) else None
        self.home = home
        if journal is None and self.seal is not None:
            if home is None:
                raise UsageError("the journal of a file store lies in its home, so name that: Broker(home=...)")
            journal = FileJournal(home.journal, seal=self.seal)
        self.journal = journal or MemoryJournal()
        self.machine = machine_id()

    def now(self) -> float:
        return time.time()

    def process(self) -> ProcessIdentity:
        return ProcessIdentity.own()

    def is_gone(self, process: ProcessIdentity) -> bool:
        return process.is_gone()

    @contextmanager
    def state(self) -> "Iterator[State | None]":
        if self.home is None or not has_state(self.home):
            yield None
            return
        with open_state(self.home) as state:
            yield state


class FileBackend(GivenBackend):
    """The files of a home, including accounts attached to other programs' stores."""

    store: AttachedStore

    def __init__(self, home: Home, journal: Journal | None = None) -> None:
        store = AttachedStore(FileStore(home), home.attached, partial(open_attached, home), moves=PendingMove(home))
        super().__init__(store, journal, home)


def open_backend(home: Home, settings: StoreSettings) -> Backend:
    """Open the home's files, or the shared database of `[store]`. Raises `ConfigError`, `StorageFailed`."""
    if not settings.url:
        return FileBackend(home)
    from tokenferry.broker._fleet_backend import FleetBackend  # noqa: PLC0415  # few homes have one

    return FleetBackend(home, settings)


class Sealer(Protocol):
    """Seals and unseals accounts: those in a home's files, or those that several hosts share."""

    def state(self) -> SealState: ...
    def seal(self, place: KeyPlace | None = None, *, accept: Collection[str] = ()) -> SealResult: ...
    def rotate(self, place: KeyPlace | None = None) -> SealResult: ...
    def unseal(self) -> SealResult: ...
    def check_forgettable(self) -> None: ...
    def forget(self, result: SealResult) -> None: ...


def open_sealing(home: Home, settings: StoreSettings) -> Sealer:
    """Open what seals and unseals the accounts of this home, or of the database of `[store]`."""
    if settings.url:
        from tokenferry.broker._fleet_sealing import FleetSealing  # noqa: PLC0415  # few homes have one

        return FleetSealing.of(home, settings)
    store = FileBackend(home).store
    return Sealing(home, store.files, store, FileJournal(home.journal, seal=store.seal), PendingMove(home))


def stamps(book: Accounts, backend: Backend) -> dict[str, Hashable]:
    """Return stamps of everything that a listing depends on: the store, the choices, and the sealing key's retries."""
    found: dict[str, Hashable] = dict(book.known.stamps())
    if backend.seal is not None:
        found[":seal"] = backend.seal.try_again()  # no account's name has a colon
    if (home := backend.home) is not None:
        for name, path in ((":active", home.active), (":default-provider", home.default_provider)):
            with suppress(OSError):
                found[name] = path.stat().st_mtime_ns
    return found


def forget_cooldowns(backend: Backend, name: str) -> None:
    """Remove the records of a removed account, since another one may get its name."""
    try:
        with backend.state() as state:
            if state is None:
                return
            for one in state.cooldowns.list():
                if (one.scope.kind, one.scope.name) == ("account", name):
                    state.cooldowns.clear(one.scope)
            state.organizations.forget(name)
    except TokenferryError as fault:
        logger.warning("the cooldowns of account %s are still on record: %s", name, fault)


def limited_accounts(backend: Backend, now: Callable[[], float]) -> frozenset[str]:
    """Return the accounts with a cooldown for every model; none if the state can't be read."""
    if backend.home is None or backend.seal is None:
        return frozenset()
    depend_on("cooldowns", backend.home.state)
    try:
        with backend.state() as state:
            cooldowns = () if state is None else state.cooldowns.list()
    except TokenferryError:
        doubt()
        return frozenset()
    found = [one.scope for one in cooldowns if not one.scope.family and not one.is_over(now())]
    return frozenset(scope.name for scope in found if scope.kind == "account")
