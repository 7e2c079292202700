"""The `Broker`: gives any account's credential, renewed where that is due, to threads and event loops alike."""

import contextlib
import logging
import os
import time
from collections.abc import Callable, Generator, Mapping
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Final, TypeAlias

from tokenferry.accounts import AccountBook, Listing, accounts_from_environment, accounts_from_keys, machine_id
from tokenferry.config import Config, load
from tokenferry.credentials import Credential, OAuthToken
from tokenferry.errors import NeedsLogin, PolicyRefused, RefreshBusy, TokenferryError, UnknownProvider
from tokenferry.oauth import OAuthEndpoints, TokenRequest, Transmission
from tokenferry.providers import Provider, builtin_providers
from tokenferry.refresh import (
    FileJournal,
    Flight,
    Job,
    Journal,
    MemoryJournal,
    ProcessIdentity,
    RefreshEngine,
    RefreshStatistics,
    Result,
    World,
    seconds_left,
    send,
    window,
)
from tokenferry.secret import Secret
from tokenferry.settings import Home, PolicySettings, RefreshSettings
from tokenferry.stores import Account, Document, FileStore, Store, Watch, read_private_file

if TYPE_CHECKING:
    from collections.abc import Hashable
    from concurrent.futures import Future

__all__ = ["Broker"]

logger = logging.getLogger(__name__)

_ROUNDS: Final = 3
_ADVISORY_PAUSE: Final = 5.0
_ACTIVE: Final = ":active"  # no account's name


@dataclass(frozen=True, slots=True)
class _Warm:
    """A credential that may be handed out until then (seconds since 1970 UTC) without a look at anything."""

    credential: Credential
    until: float


Steps: TypeAlias = Generator[Flight, None, Credential]


class Broker:
    """Resolves accounts to credentials. Thread-safe, fork-safe, and usable from any number of event loops.

    `store` defaults to the files of TOKENFERRY_HOME; any object with the methods of `Store` will do. `refresh_timeout`
    is the longest one grant request may take, in seconds.
    """

    def __init__(
        self,
        *,
        store: Store | None = None,
        journal: Journal | None = None,
        providers: Mapping[str, Provider] | None = None,
        policy: PolicySettings | None = None,
        settings: RefreshSettings | None = None,
        refresh_timeout: float | None = None,
        implicit: Mapping[str, Document] | None = None,
        home: Home | None = None,
        now: Callable[[], float] = time.time,
        send: Callable[[TokenRequest, float], Transmission] = send,
    ) -> None:
        self.settings = settings or RefreshSettings()
        if refresh_timeout is not None:
            self.settings = replace(self.settings, timeout=refresh_timeout)
        if store is None:
            home = home or Home.from_environment()
            store = FileStore(home)
        if journal is None:
            journal = FileJournal(home.journal) if home and isinstance(store, FileStore) else MemoryJournal()
        self.providers = providers if providers is not None else builtin_providers()
        self.policy = policy or PolicySettings()
        self.machine = machine_id()
        self.journal = journal
        self.book = AccountBook(store, implicit=implicit, active=home.active if home else None)
        self._now = now
        self._warm: dict[str | None, _Warm] = {}
        self._refused: dict[str, str] = {}
        self._listing: Listing | None = None
        self._revision = 0
        active = home.active if home else None
        self._watch = Watch(partial(_stamps, store, active), self.settings.watch, self._forget)
        world = World(
            endpoints=self._endpoints,
            client_secret=_client_secret,
            now=now,
            machine=self.machine,
            process=ProcessIdentity.own(),
            settings=self.settings,
        )
        self._engine = RefreshEngine(store=store, journal=journal, world=world, send=send)

    @classmethod
    def from_home(cls, home: Home | None = None, config: Config | None = None) -> "Broker":
        """The broker of this machine's user: their files, configuration and environment.

        Raises `ConfigError`, `UnsafeFile`.
        """
        home = home or Home.from_environment()
        config = config or load(home.config)
        implicit = {**accounts_from_environment(os.environ), **accounts_from_keys(config.keys)}
        return cls(home=home, providers=config.providers, policy=config.policy, implicit=implicit)

    # -- giving credentials

    def resolve(self, name: str | None = None, *, min_ttl: float | None = None) -> Credential:
        """Give the account's credential, waiting for a refresh only where the present token is about used up.

        `min_ttl` asks for that many seconds of life, as far as the provider grants so long a one. Without a name it is
        the account that TOKENFERRY_ACCOUNT, `tokenferry use`, or being the only one picks. Raises `UnknownAccount`,
        `NeedsLogin`, `RefreshBusy`, `RefreshFailed`, `RefreshUncertain`, `CredentialRefused`, `PolicyRefused`,
        `UnsafeFile`, `CorruptFile`.
        """
        warm = self._warm.get(name)
        if warm is not None and min_ttl is None and self._now() < warm.until:
            return warm.credential
        steps = self._steps(name, min_ttl)
        try:
            flight = next(steps)
            while True:
                flight.waiters += 1
                try:
                    flight.future.exception(self.settings.wait)
                except TimeoutError:
                    pass
                finally:
                    flight.waiters -= 1
                flight = next(steps)
        except StopIteration as end:
            credential: Credential = end.value
            return credential

    async def aresolve(self, name: str | None = None, *, min_ttl: float | None = None) -> Credential:
        """The same for asyncio. Cancelling it ends the waiting, never the refresh."""
        warm = self._warm.get(name)
        if warm is not None and min_ttl is None and self._now() < warm.until:
            return warm.credential
        steps = self._steps(name, min_ttl)
        try:
            flight = next(steps)
            while True:
                flight.waiters += 1
                try:
                    await _settled(flight.future, self.settings.wait)
                finally:
                    flight.waiters -= 1
                flight = next(steps)
        except StopIteration as end:
            credential: Credential = end.value
            return credential

    def cached(self, name: str) -> Credential | None:
        """The account's credential if it is fresh and known without any I/O."""
        warm = self._warm.get(name)
        return warm.credential if warm is not None and self._now() < warm.until else None

    def invalidate(self, name: str, secret: Secret) -> None:
        """Say that the provider refused this token with a 401.

        Nothing happens if the account's token is another by now. Else the next `resolve` re-reads, and refreshes only
        if the refused one is still there.
        """
        warm = self._warm.get(name)
        if warm is None or warm.credential.secret == secret:
            self._refused[name] = secret.sha256
            self._forget(frozenset((name,)))

    def refresh(self, name: str | None = None) -> Credential:
        """One grant now, however fresh the token. Raises what `resolve` raises."""
        name = self.book.choose(name)
        self._read(name)
        flight = self._engine.start(Job(name, wait=self.settings.wait, forced=True))
        result = flight.future.result(self.settings.wait + self.settings.timeout)
        self._forget(frozenset((name,)))
        return result.document.credential

    # -- knowing what there is

    def accounts(self) -> list[Account]:
        """The accounts in order (priority, then creation); changes by other processes count within a second."""
        return list(self.listing().accounts)

    def listing(self) -> Listing:
        """The accounts in order, and those whose document can't be read."""
        listing = self._listing
        if listing is None:
            self._watch.ensure_running()
            revision = self._revision
            listing = self.book.listing()
            if revision == self._revision:
                self._listing = listing
        return listing

    def provider_of(self, account: Account) -> Provider:
        """Raises `UnknownProvider`."""
        try:
            return self.providers[account.provider]
        except KeyError:
            raise UnknownProvider(
                f"account {account.name!r} belongs to provider {account.provider!r}, which is not declared; "
                f"known: {', '.join(self.providers)}; declare it under [[providers]] in config.toml"
            ) from None

    def statistics(self, name: str) -> RefreshStatistics:
        """What this process saw of the account's refreshes."""
        return self._engine.statistics(name)

    def drain(self, timeout: float) -> bool:
        """Begin no further refresh, wait for those in flight; tells whether all ended in time (seconds)."""
        self._watch.stop()
        return self._engine.drain(timeout)

    # -- the one decision

    def _steps(self, name: str | None, min_ttl: float | None) -> Steps:
        """Yield flights to wait for, return the credential: shared by `resolve` and `aresolve`."""
        self._watch.ensure_running()
        asked, name = name, self.book.choose(name)
        for _ in range(_ROUNDS):
            revision = self._revision
            document = self._read(name)
            job = self._job(name, document, min_ttl)
            if job is None:
                return self._remember({asked, name}, document.credential, revision)
            flight = self._engine.start(job)
            yield flight
            fault = flight.future.exception() if flight.future.done() else _still_busy(name, self.settings.wait)
            if fault is not None:
                if isinstance(fault, RefreshBusy) and flight.job.wait < job.wait:
                    continue  # an advisory flight, which waits for nobody
                return self._fall_back(document, job, fault)
            result: Result = flight.future.result()
            if result.granted or job.is_satisfied_by(result.document, self._now()):
                return self._remember({asked, name}, result.document.credential, revision)
        raise RefreshBusy(f"account {name!r}: its document changes faster than it can be read; try again")

    def _read(self, name: str) -> Document:
        """The document, if policy allows its use here."""
        document = self.book.read(name)
        provider = self.provider_of(document.account)
        if self.policy.subscription == "off" and provider.bills_subscription(document.credential):
            raise PolicyRefused(
                f"account {name!r} is billed to a Claude subscription, which tokenferry hands to nobody but Claude "
                'Code itself; if it is yours alone and you read the vendor\'s terms, set subscription = "own" under '
                "[policy] in config.toml; API keys and Console logins work without that"
            )
        return document

    def _job(self, name: str, document: Document, min_ttl: float | None) -> Job | None:
        """What must be waited for before the credential can be used; None if nothing."""
        token = document.credential
        if not isinstance(token, OAuthToken):
            return None
        if self._refused.get(name) == token.secret.sha256:
            return Job(name, wait=self.settings.wait, refused=token.secret.sha256)
        left = seconds_left(token, self._now())
        if document.account.owner != "tokenferry" or token.refresh is None:
            if left <= 0:
                return Job(name, wait=self.settings.wait)  # whose flow says in full why nothing can be done
            return None
        needs = self.settings.mandatory if min_ttl is None else max(min_ttl, self.settings.mandatory)
        if left <= window(token, needs):
            return Job(name, needs=needs, wait=self.settings.wait)
        if left <= window(token, self.settings.advisory):
            self._refresh_in_background(name)
        return None

    def _refresh_in_background(self, name: str) -> None:
        try:
            flight = self._engine.start(Job(name, needs=self.settings.advisory, wait=0.0))
        except TokenferryError as fault:
            logger.info("no early refresh: %s", fault)
            return
        flight.future.add_done_callback(lambda _: self._forget(frozenset((name,))))

    def _remember(self, keys: set[str | None], credential: Credential, revision: int) -> Credential:
        """Keep what may be handed out without I/O, and until when; not if something changed since it was read."""
        if revision != self._revision:
            return credential
        until = float("inf")
        if isinstance(credential, OAuthToken):
            now = self._now()
            until = now + seconds_left(credential, now) - window(credential, self.settings.advisory)
            if until <= now:  # in the advisory window: look again soon, at the latest when waiting becomes due
                last = now + seconds_left(credential, now) - window(credential, self.settings.mandatory)
                until = min(now + _ADVISORY_PAUSE, last)
        for key in keys:
            self._warm[key] = _Warm(credential, until)
        return credential

    def _fall_back(self, document: Document, job: Job, fault: BaseException) -> Credential:
        """The living token that a refresh could not better, else the reason why there is none."""
        token = document.credential
        assert isinstance(token, OAuthToken)
        is_alive = seconds_left(token, self._now()) > 0 and token.secret.sha256 != job.refused
        if is_alive and isinstance(fault, TokenferryError):
            logger.warning("the present token is used as long as it lives: %s", fault)
            return token
        raise fault

    def _forget(self, names: frozenset[str]) -> None:
        self._revision += 1
        self._listing = None
        for name in names:
            self._warm.pop(name, None)
        self._warm.pop(None, None)

    def _endpoints(self, document: Document) -> OAuthEndpoints:
        return self.provider_of(document.account).endpoints


def _stamps(store: Store, active: Path | None) -> "dict[str, Hashable]":
    """The store's stamps, and that of the file which names the account in use."""
    stamps = dict(store.stamps())
    if active is not None:
        with contextlib.suppress(OSError):
            stamps[_ACTIVE] = active.stat().st_mtime_ns
    return stamps


def _still_busy(name: str, seconds: float) -> RefreshBusy:
    return RefreshBusy(
        f"account {name!r}: its refresh is still in flight after {seconds:g} seconds; try again", retry_after=1.0
    )


def _client_secret(endpoints: OAuthEndpoints) -> Secret | None:
    if endpoints.client_secret_file is None:
        return None
    path = Path(endpoints.client_secret_file).expanduser()
    try:
        return Secret(read_private_file(path).decode("ascii", "replace").strip())
    except FileNotFoundError:
        raise NeedsLogin(f"{path} not found; it must hold the client secret that client_secret_file names") from None
    except ValueError as fault:
        raise NeedsLogin(f"{path} holds no usable client secret: {fault}") from None


async def _settled(future: "Future[Result]", seconds: float) -> None:
    """Wait until the future is done or the time is up. Parks no thread, and survives a loop that closes meanwhile."""
    import asyncio  # noqa: PLC0415  # 50 ms that synchronous callers are spared

    loop = asyncio.get_running_loop()
    done = asyncio.Event()

    def wake(_: "Future[Result]") -> None:
        try:
            loop.call_soon_threadsafe(done.set)
        except RuntimeError:
            return  # the loop that waited is closed; nobody is left to wake

    future.add_done_callback(wake)
    try:
        async with asyncio.timeout(seconds):
            await done.wait()
    except TimeoutError:
        return
