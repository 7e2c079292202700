import logging
import os
import time
from collections.abc import Callable, Generator, Iterable, Mapping
from copy import copy
from dataclasses import dataclass, replace
from functools import partial
from types import MappingProxyType
from typing import TYPE_CHECKING, Final, TypeAlias

from tokenferry.accounts import (
    AccountBook,
    Content,
    Listing,
    Publication,
    accounts_from_environment,
    accounts_from_keys,
    check_age,
    machine_id,
    too_old_at,
)
from tokenferry.broker import _policy
from tokenferry.broker._due import Due
from tokenferry.broker._federation import exchange
from tokenferry.broker._opening import CutShort, forget_cooldowns, open_attached, stamps
from tokenferry.broker._publisher import Published, Publisher
from tokenferry.broker._revocation import Revocation, revocable, revoke
from tokenferry.config import Config, load
from tokenferry.credentials import ApiKey, Credential, FederatedToken, Federation, OAuthToken, SetupToken
from tokenferry.errors import (
    LOGIN_MARK,
    ConfigError,
    CorruptFile,
    NeedsLogin,
    NeedsUnlock,
    RefreshBusy,
    TokenferryError,
    UnknownProvider,
    UnsafeFile,
    UsageError,
)
from tokenferry.oauth import OAuthEndpoints, TokenRequest, Transmission
from tokenferry.providers import Provider, builtin_providers, logs_in_at_subscription
from tokenferry.refresh import (
    Discovery,
    FileJournal,
    Flight,
    Job,
    Journal,
    MemoryJournal,
    Needed,
    ProcessIdentity,
    RefreshEngine,
    RefreshHistory,
    RefreshStatistics,
    Result,
    WarmCredentials,
    World,
    fresh_until,
    granted_ago,
    read_client_secret,
    send,
)
from tokenferry.secret import Fields, Secret
from tokenferry.settings import Home, PolicySettings, RefreshSettings
from tokenferry.stores import Account, AttachedStore, Document, FileStore, Store, Watch

if TYPE_CHECKING:
    from tokenferry.state import ClientKey  # brings SQLite, which few things here need

logger = logging.getLogger(__name__)

_ROUNDS: Final = 3
_PUBLISHED_TTL: Final = 600.0

Steps: TypeAlias = Generator[Flight, None, Credential]


@dataclass(frozen=True, slots=True)
class _Rules:
    """What the configuration says of credentials: one value, so that nobody goes by halves of two."""

    providers: Mapping[str, Provider]
    policy: PolicySettings

    def provider_of(self, account: Account) -> Provider:
        try:
            return self.providers[account.provider]
        except KeyError:
            raise UnknownProvider(
                f"account {account.name!r} belongs to provider {account.provider!r}, which is not declared; "
                f"known: {', '.join(self.providers)}; declare it under [[providers]] in config.toml"
            ) from None


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
            store = AttachedStore(FileStore(home), home.attached, partial(open_attached, home), moves=CutShort(home))
        if isinstance(store, FileStore) and home is None and journal is None:
            raise UsageError("the journal of a file store lies in its home, so name that: Broker(home=...)")
        on_disk = home if isinstance(store, FileStore | AttachedStore) else None
        self._seal = store.seal if isinstance(store, FileStore | AttachedStore) else None
        if journal is None:
            journal = FileJournal(on_disk.journal, seal=self._seal) if on_disk else MemoryJournal()
        self._rules = _Rules(providers if providers is not None else builtin_providers(), policy or PolicySettings())
        self.machine = machine_id()
        self.home = home
        self.login_page: str | None = None
        """Where a person is led whose login is dead, if there is a page for that: errors end with it."""
        self.journal = journal
        self.book = AccountBook(store, implicit=implicit, active=home.active if home else None)
        self._now = now
        self._send = send
        self._discovery = Discovery(send)
        self._due = Due(self.settings, now)
        self._warm = WarmCredentials()
        self._entries = self._warm.entries
        self._listing: Listing | None = None
        active = home.active if home else None
        self._watch = Watch(partial(stamps, store, active), self.settings.watch, self._notice)
        world = World(
            endpoints=self._endpoints,
            client_secret=read_client_secret,
            now=now,
            machine=self.machine,
            process=ProcessIdentity.own(),
            settings=self.settings,
        )
        self.publisher = Publisher(on_disk, self._read, lambda document: self.provider_of(document.account).base_url)
        self._engine = RefreshEngine(
            store=store,
            journal=journal,
            world=world,
            send=send,
            renewed=lambda name: self._warm.forget((name,)),
            settled=self.publisher.follow,
        )

    @classmethod
    def from_home(cls, home: Home | None = None, config: Config | None = None) -> "Broker":
        """The broker of this machine's user: their files, configuration and environment.

        Raises `ConfigError`, `UnsafeFile`.
        """
        home = home or Home.from_environment()
        config = config or load(home.config, statement=home.statement)
        return cls(home=home, providers=config.providers, policy=config.policy, implicit=_implicit(config))

    @property
    def providers(self) -> Mapping[str, Provider]:
        """By name; another object after each change of the configuration."""
        return self._rules.providers

    @property
    def policy(self) -> PolicySettings:
        return self._rules.policy

    def adopt(self, config: Config) -> None:
        """Go by another configuration from here on: its providers, policy and keys. From any thread; no I/O."""
        self.book.adopt(_implicit(config))
        self._rules = _Rules(config.providers, config.policy)
        self._warm.forget([name for name in list(self._entries) if name is not None])
        if (listing := self._listing) is not None:
            self._listing = self.book.listed_anew(listing)

    # -- giving credentials

    def resolve(self, name: str | None = None, *, min_ttl: float | None = None) -> Credential:
        """Give the account's credential, waiting for a refresh only where the present token is about used up.

        `min_ttl` asks for that many seconds of life, as far as the provider grants so long a one. Without a name it is
        the account that TOKENFERRY_ACCOUNT, `tokenferry use`, or being the only one picks. Raises `UnknownAccount`,
        `NeedsLogin`, `NeedsUnlock`, `RefreshBusy`, `RefreshFailed`, `RefreshUncertain`, `CredentialRefused`,
        `PolicyRefused`, `UnsafeFile`, `CorruptFile`.
        """
        warm = self._entries.get(name)
        if warm is not None and min_ttl is None and self._now() < warm.until:
            return warm.credential
        steps = self._steps(name, min_ttl)
        while isinstance(step := _next(steps), Flight):
            step.wait(self.settings.wait)
        return step

    async def aresolve(self, name: str | None = None, *, min_ttl: float | None = None) -> Credential:
        """The same for asyncio. Cancelling it ends the waiting, never the refresh."""
        warm = self._entries.get(name)
        if warm is not None and min_ttl is None and self._now() < warm.until:
            return warm.credential
        import asyncio  # noqa: PLC0415  # 50 ms that synchronous callers are spared

        steps = self._steps(name, min_ttl)
        while isinstance(step := await asyncio.to_thread(_next, steps), Flight):  # a Keychain may take seconds to read
            await step.async_wait(self.settings.wait)
        return step

    def fresh(self, name: str | None = None) -> Credential | None:
        """The account's credential if it may be handed out without a look at anything; else it takes a `resolve`."""
        warm = self._entries.get(name)
        return warm.credential if warm is not None and self._now() < warm.until else None

    def invalidate(self, name: str | None, secret: Secret) -> None:
        """Say that the provider refused this token with a 401; `name` is what it was resolved with.

        Nothing happens if the account's token is another by now. Else the next `resolve` re-reads, and refreshes only
        if the refused one is still there.
        """
        kept = self._warm.holds(name)
        if kept is None or kept.secret == secret:
            self._due.refuse(secret)
            self._warm.forget(self._warm.names_of(secret))

    def was_just_granted(self, credential: Credential) -> bool:
        """Tell whether a refresh made this token so recently that a 401 is no reason for another one."""
        if not isinstance(credential, OAuthToken):
            return False
        return 0 <= granted_ago(credential, self._now()) < self.settings.settle

    def refresh(self, name: str | None = None) -> Credential:
        """One grant now, however fresh the token. Raises what `resolve` raises."""
        name = self.book.choose(name)
        self._read(name)
        return self.renew(name).credential

    def renew(self, name: str | None = None, job: Job | None = None) -> Document:
        """One grant now, for the account's sake: policy, which is about handing credentials out, isn't asked.

        The chain's owner rules whether it may be. A `job` may be content with less. Raises what `resolve` raises.
        """
        name = self.book.choose(name)
        self.provider_of(self.book.read(name).account)
        job = job or self._due.job_for(name, forced=True)
        for _ in range(_ROUNDS):
            flight = self._engine.start(job)
            flight.wait(self.settings.wait + self.settings.timeout)
            if not flight.future.done():
                break
            fault = flight.future.exception()
            if fault is None and (flight.job is job or flight.future.result().granted):
                return flight.future.result().document
            if fault is not None and flight.job is job:
                raise self._own_copy(fault)
        raise _still_busy(name)

    # -- knowing what there is

    def accounts(self) -> list[Account]:
        """The accounts in order (priority, then creation); changes by other processes count within a second."""
        return list(self.listing().accounts)

    def listed(self) -> tuple[Account, ...]:
        """The same as `accounts`: one object as long as nothing changed."""
        return self.listing().accounts

    def listing(self) -> Listing:
        """The accounts in order, and those whose document can't be read."""
        listing = self._listing
        if listing is None:
            self._watch.ensure_running()
            revision = self._warm.revision
            self._listing = listing = self.book.listing()
            if revision is not self._warm.revision:
                self._listing = None
        return listing

    def provider_of(self, account: Account) -> Provider:
        """Raises `UnknownProvider`."""
        return self._rules.provider_of(account)

    def bills_subscription(self, account: Account, credential: Credential) -> bool:
        """Whether `[policy] subscription` rules the account's use. Raises `UnknownProvider`."""
        return _policy.bills_subscription(self.provider_of(account), account, credential)

    def check_policy(self, document: Document) -> None:
        """Raise `PolicyRefused` unless the credential may be handed to others than Claude Code; `UnknownProvider`."""
        rules = self._rules
        _policy.check_policy(rules.policy, rules.provider_of(document.account), document)

    def check_keys(self, keys: "Iterable[ClientKey]", policy: PolicySettings | None = None) -> None:
        """Raise `PolicyRefused` where under `own` a key that is somebody else's could be served a subscription.

        `policy` is asked about instead of the one in force. Revoked and expired keys count for nothing.
        """
        if (policy or self.policy).subscription != "own":
            return
        live = [key for key in keys if key.revoked_at is None and not key.is_expired(self._now())]
        if any(map(_policy.is_foreign, live)):
            billed = self._billed()
            for key in live:
                _policy.check_key(key, billed)

    def _billed(self) -> dict[str, str]:
        """The accounts that are billed to a subscription, or may be, with their providers."""
        found: dict[str, str] = {}
        for account in self.book.listing().accounts:
            try:
                is_billed = self.bills_subscription(account, self.book.read(account.name).credential)
            except NeedsUnlock:
                provider = self.providers.get(account.provider)
                is_billed = account.kind != "api-key" or (provider is not None and provider.subscription)
            except TokenferryError:
                continue  # nobody is served that one
            if is_billed:
                found[account.name] = account.provider
        return found

    def statistics(self, name: str) -> RefreshStatistics:
        """What this process saw of the account's refreshes; no I/O."""
        return self._engine.statistics(name)

    def history(self, name: str) -> RefreshHistory:
        """What lies on disk of the account's refreshes, by whichever process. Raises what reading the account does."""
        obtained_at = getattr(self.book.read(name).credential, "obtained_at", None)
        return RefreshHistory(
            totals=MappingProxyType(dict(self.journal.totals(name))),
            last_verdict=self.journal.verdict(name),
            token_age=None if obtained_at is None else self._now() - obtained_at,
        )

    def add(
        self, account: Account, credential: Credential, *, replacing: bool = False, origin: Fields | None = None
    ) -> bool:
        """Store an account; tells whether it took the place of one. Raises `UsageError` when the name is taken.

        `origin` is what its document shall say of where it was imported from.
        """
        if isinstance(credential, ApiKey | SetupToken) and credential.obtained_at is None:
            credential = replace(credential, obtained_at=int(self._now()))  # as well as can be known
        has_replaced = self.book.add(account, credential, machine=self.machine, replacing=replacing, origin=origin)
        if has_replaced:
            with self.book.store.exclusive(account.name, self.settings.wait):
                try:
                    self.journal.attempt(account.name)
                except (CorruptFile, UnsafeFile):  # it was about the login that is no more
                    self.journal.forget(account.name)
        self._forget(account.name)
        self.publisher.follow(account.name)
        return has_replaced

    def limit_age(self, name: str, max_age: int | None) -> None:
        """Say how many seconds old the account's key or setup token may become; None for no limit.

        One that is older isn't given any more. Raises `UnknownAccount`, `UsageError`.
        """
        self.book.limit_age(name, max_age)
        self._forget(name)

    def attach(self, account: Account) -> Credential:
        """Take in an account whose login rests in another program's store, and give that login.

        Raises `UsageError` when the name is taken, the login is attached already or isn't one of that provider,
        `NeedsLogin` when there is none, and what reading it does.
        """
        provider = self.provider_of(account)
        document = self.book.attach(account, check=partial(_policy.check_attached, provider))
        self._forget(account.name)
        return document.credential

    def remove(self, name: str) -> None:
        """Remove an account and all that is kept of it. Raises `UnknownAccount`, `UsageError`, `StorageFailed`."""
        self.book.remove(name)
        self.journal.forget(name)
        forget_cooldowns(self.home, name)
        self._forget(name)
        self.publisher.withdraw(name)

    def login_endpoints(self, provider: Provider, *, device: bool = False) -> OAuthEndpoints:
        """Where to log in at a provider, as declared or as its issuer says.

        `device` asks for what a login on another device needs, instead of what one in a browser here does. Raises
        `RefreshFailed`, `ConfigError`; `NeedsUnlock` where the login could not be kept, so that none is begun.
        """
        self.check_can_keep()
        needed: Needed = "device_url" if device else "authorize_url"
        endpoints = self._discovery.complete(provider.endpoints, needed, "token_url")
        if logs_in_at_subscription(provider.base_url, endpoints) and not provider.subscription:
            raise ConfigError(
                f"provider {provider.name!r} leads to logins that are billed to a Claude subscription; say "
                "subscription = true of it in config.toml"
            )
        return endpoints

    def federate(self, provider: Provider, federation: Federation) -> FederatedToken:
        """Exchange a workload's identity token for its first access token, which `add` then stores.

        Raises `UsageError` where the provider has no place for that, `LoginFailed` where it refuses, `TryLater`,
        `NeedsUnlock` among that.
        """
        self.check_can_keep()
        endpoints = provider.endpoints
        if endpoints.federation_url is None and not provider.uses_vendors_client:
            endpoints = self._discovery.complete(endpoints, "token_url")
        if endpoints.federation_url is None and (provider.uses_vendors_client or endpoints.token_url is None):
            can = [one.name for one in self.providers.values() if one.oauth.federation_url]
            raise UsageError(
                f"provider {provider.name!r} declares no federation_url, where an identity token could be exchanged; "
                f"{' and '.join(can)} do"
            )
        return exchange(endpoints, federation, self._send, self._now)

    def check_can_keep(self) -> None:
        """Raise `NeedsUnlock` or `SealKeyLost` where a new login could not be kept: ask before there is one."""
        if self._seal is not None:
            self._seal.for_writing(None, is_new=True)

    def revoke(self, name: str) -> Revocation:
        """End the account's login at its provider, if its chain is ours; it can't be renewed or used from then on.

        Under the account's lock, so that no refresh is under way. Raises `UnknownAccount`, `LockTimeout`.
        """
        store = self.book.store
        if isinstance(store, AttachedStore) and store.is_attached(name):
            return Revocation()
        with store.exclusive(name, self.settings.wait):
            try:
                document = store.read(name)
            except (CorruptFile, UnsafeFile):
                return Revocation(reason="its document can't be read")
            try:
                attempt = self.journal.attempt(name)
            except (CorruptFile, UnsafeFile):
                attempt = None
            token = revocable(document, attempt, self.machine)
            return token if isinstance(token, Revocation) else self.revoke_token(document.account.provider, token)

    def revoke_token(self, provider: str, token: OAuthToken) -> Revocation:
        """End a login that no account holds, at the provider of that name. Raises nothing."""
        known = self.providers.get(provider)
        if known is None:
            return Revocation(reason=f"provider {provider!r} is not declared")
        return revoke(lambda: self._discovery.complete(known.endpoints, "revoke_url"), token, self._send)

    def publish(self, name: str | None = None, profile: str | None = None, *, activate: bool = False) -> Publication:
        """Make an account a profile of the official SDKs, renewed first where that is due.

        It is called like the account unless another name is given. Every grant rewrites it. Raises what `resolve`
        raises, `Conflict` for a profile that isn't ours, `UsageError` for an account that no profile can hold.
        """
        name = self.book.choose(name)
        Content.of(name, self.resolve(name, min_ttl=_PUBLISHED_TTL), "")
        return self.publisher.publish(name, profile, activate=activate)

    def republish(self, name: str | None = None) -> list[Published]:
        """Rewrite the profiles that are behind their accounts, of one or of all, and tell how each stands.

        For who looks after them: whatever a grant's own process didn't get done is done here. Raises nothing.
        """
        return self.publisher.republish(name)

    def refreshing(self) -> tuple[str, ...]:
        """The accounts whose refresh is in flight in this process, sorted."""
        return self._engine.in_flight()

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
            revision = self._warm.revision
            document = self._read_anew(name)
            job = self._due.job(name, document, min_ttl)
            if job is None:
                self._refresh_early(name, document)
                self._keep((asked, name), document, revision)
                self.publisher.heal(document)
                return document.credential
            flight = self._engine.start(job)
            yield flight
            fault = flight.future.exception() if flight.future.done() else _still_busy(name)
            if fault is not None:
                if isinstance(fault, RefreshBusy) and flight.job.wait < job.wait:
                    continue  # an advisory flight, which waits for nobody
                return self._fall_back(document, job, fault)
            result: Result = flight.future.result()
            if result.granted or job.is_satisfied_by(result.document, self._now()):
                return result.document.credential  # not kept: it may have changed since, and reading it again is cheap
        raise RefreshBusy(f"account {name!r}: its document changes faster than it can be read; try again")

    def _read(self, name: str) -> Document:
        """The document, if policy allows its use here, and it isn't too old."""
        document = self.book.read(name)
        self.check_policy(document)
        check_age(document, self._now())
        return document

    def _read_anew(self, name: str) -> Document:
        try:
            return self._read(name)
        except NeedsLogin as fault:
            raise self._own_copy(fault) from None

    def _refresh_early(self, name: str, document: Document) -> None:
        job = self._due.early_job(name, document)
        try:
            if job is not None:
                self._engine.start(job)
        except TokenferryError as fault:
            logger.info("no early refresh: %s", fault)

    def _keep(self, keys: tuple[str | None, ...], document: Document, revision: object) -> None:
        """Keep what may be handed out without I/O until it has to be looked at again."""
        until, limit = fresh_until(document.credential, self._now(), self.settings), too_old_at(document)
        self._warm.keep(keys, document.credential, until if limit is None else min(until, limit), revision)

    def _fall_back(self, document: Document, job: Job, fault: BaseException) -> Credential:
        """The living token that a refresh could not better, else the reason why there is none."""
        if isinstance(fault, TokenferryError) and self._due.is_usable(document.credential, job):
            logger.warning("the present token is used as long as it lives: %s", fault)
            return document.credential
        raise self._own_copy(fault)

    def _own_copy(self, fault: BaseException) -> BaseException:
        """One error ends all who wait for a flight; each raises a copy, or tracebacks would grow with every raise."""
        if not isinstance(fault, TokenferryError):
            return fault
        fault = copy(fault)
        if isinstance(fault, NeedsLogin) and self.login_page is not None:
            fault.args = (f"{fault}{LOGIN_MARK}{self.login_page}",)
        return fault

    def _notice(self, names: Iterable[str]) -> None:
        """What anybody changed. It is told on the watch's thread, which lists anew, so that no event loop has to."""
        self._warm.forget(names)
        if self._listing is not None:
            rules = self._rules
            try:
                self._listing = self.book.listing()
            except TokenferryError:  # whoever asks next is told
                self._listing = None
            if rules is not self._rules:  # it may lack accounts that the configuration has got meanwhile
                self._listing = None

    def _forget(self, name: str) -> None:
        self._warm.forget((name,))
        self._listing = None

    def _endpoints(self, document: Document) -> OAuthEndpoints:
        endpoints = self.provider_of(document.account).endpoints
        if isinstance(document.credential, FederatedToken) and endpoints.federation_url is not None:
            return endpoints
        return self._discovery.complete(endpoints, "token_url")


def _implicit(config: Config) -> dict[str, Document]:
    return {**accounts_from_environment(os.environ), **accounts_from_keys(config.keys)}


def _next(steps: Steps) -> Flight | Credential:
    """The next flight to wait for, or the credential they lead to."""
    try:
        return next(steps)
    except StopIteration as end:
        credential: Credential = end.value
        return credential


def _still_busy(name: str) -> RefreshBusy:
    return RefreshBusy(f"account {name!r}: its refresh is still in flight; try again in a moment", retry_after=1.0)
