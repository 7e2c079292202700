import logging
import os
import time
from collections.abc import Callable, Iterable, Mapping, Sequence
from functools import partial
from types import MappingProxyType
from typing import TYPE_CHECKING, Final

from msgspec.structs import replace

from tokenferry.accounts import (
    AccountChanges,
    AccountList,
    Accounts,
    Content,
    KeySourceSettings,
    Publication,
    accounts_from_environment,
    accounts_from_keys,
    check_age,
    key_sources_of,
)
from tokenferry.broker._backend import (
    Backend,
    FileBackend,
    GivenBackend,
    forget_cooldowns,
    limited_accounts,
    open_backend,
    refresh_settings,
    stamps,
)
from tokenferry.broker._forced import ForcedRenewals
from tokenferry.broker._listing import WatchedListing
from tokenferry.broker._logins import Logins
from tokenferry.broker._pending_login import PendingLogin
from tokenferry.broker._publisher import Published, Publisher
from tokenferry.broker._resolver import Resolver
from tokenferry.broker._revocation import Revocation, revocable
from tokenferry.broker._rules import Rules, check_attached
from tokenferry.broker._verification import Verification, verify
from tokenferry.config import Config, load
from tokenferry.credentials import (
    ApiKey,
    Credential,
    ExchangedToken,
    FederatedToken,
    Federation,
    OAuthToken,
    SetupToken,
)
from tokenferry.errors import CorruptFile, CredentialRefused, TokenferryError, UnsafeFile, UsageError
from tokenferry.oauth import OAuthEndpoints, TokenExchange
from tokenferry.providers import Provider, builtin_providers
from tokenferry.refresh import (
    FlowContext,
    Journal,
    RefreshEngine,
    RefreshHistory,
    RefreshRequest,
    RefreshStatistics,
    Sender,
    WarmCredentials,
    granted_ago,
    read_client_secret,
    send,
)
from tokenferry.secret import Fields, Secret
from tokenferry.settings import AccountSettings, Home, PolicySettings, RefreshSettings
from tokenferry.stores import Account, Attaching, Document, Follow, Mirrored, Store, check_account_name

if TYPE_CHECKING:
    from tokenferry.state import ClientKey  # brings SQLite, which few things here need

logger = logging.getLogger(__name__)

_PUBLISHED_TTL: Final = 600.0


class Broker:
    """Resolves accounts to credentials. Thread-safe, fork-safe, and usable from any number of event loops.

    `backend` defaults to `store` if given, any object with the methods of `Store`, else to the files of
    TOKENFERRY_HOME. `refresh_timeout` is the longest one grant request may take, in seconds.
    """

    def __init__(
        self,
        *,
        backend: Backend | None = None,
        store: Store | None = None,
        journal: Journal | None = None,
        providers: Mapping[str, Provider] | None = None,
        policy: PolicySettings | None = None,
        settings: RefreshSettings | None = None,
        refresh_timeout: float | None = None,
        implicit: Mapping[str, Document] | None = None,
        sources: Iterable[KeySourceSettings] = (),
        overrides: Mapping[str, AccountSettings] | None = None,
        home: Home | None = None,
        now: Callable[[], float] | None = None,
        send: Sender = send,
        monotonic: Callable[[], float] = time.monotonic,
    ) -> None:
        self.settings = settings or RefreshSettings()
        if refresh_timeout is not None:
            self.settings = replace(self.settings, timeout=refresh_timeout)
        if backend is None and store is not None:
            backend = GivenBackend(store, journal, home)
        self.backend = backend = backend or FileBackend(home or Home.from_environment(), journal)
        self._rules = Rules(providers if providers is not None else builtin_providers(), policy or PolicySettings())
        now = now or backend.now
        self.machine = backend.machine
        self.home = home = backend.home
        self.login_page: str | None = None
        """The address of a page about logging in again, if there is one; `NeedsLogin` errors end with it."""
        self.journal = backend.journal
        self.book = Accounts(
            backend.store,
            implicit=implicit,
            sources=sources,
            overrides=overrides,
            active=home.active if home else None,
            default_provider=home.default_provider if home else None,
            decide=self._decide_default,
            now=now,
        )
        self._now = now
        self._send = send
        warm = WarmCredentials()
        self._entries = warm.entries
        self._listing = WatchedListing(self.book, warm, partial(stamps, self.book, backend), self.settings.watch)
        self._logins = Logins(lambda: self._rules, send, now, backend.seal)
        self.publisher = Publisher(
            home if backend.seal else None,
            self._read,
            lambda document: document.credential.endpoint or self.provider_of(document.account).base_url,
        )
        context = FlowContext(
            endpoints=self._logins.renewal_endpoints,
            client_secret=read_client_secret,
            now=now,
            machine=self.machine,
            process=backend.process(),
            identify=backend.process,
            is_gone=backend.is_gone,
            settings=self.settings,
            monotonic=monotonic,
        )
        self._engine = RefreshEngine(
            store=backend.store,
            journal=backend.journal,
            context=context,
            send=send,
            renewed=lambda name: warm.forget((name,)),
            settled=self.publisher.follow,
        )
        self._resolver = Resolver(
            book=self.book,
            read=self._read,
            engine=self._engine,
            warm=warm,
            watch=self._listing.watch,
            settings=self.settings,
            now=now,
            handed_out=self.publisher.heal,
            login_page=lambda: self.login_page,
            limited=partial(limited_accounts, backend, now),
        )

    @classmethod
    def from_home(cls, home: Home | None = None, config: Config | None = None) -> "Broker":
        """Make the broker of this user, by their files, configuration and environment.

        Raises `ConfigError`, `UnsafeFile`.
        """
        home = home or Home.from_environment()
        config = config or load(home.config, statement=home.statement)
        return cls(
            backend=open_backend(home, config.store),
            providers=config.providers,
            policy=config.policy,
            implicit=_implicit(config),
            sources=key_sources_of(config.providers.values(), config.pool.accounts),
            overrides=config.pool.accounts,
            settings=refresh_settings(config.store),
        )

    @property
    def providers(self) -> Mapping[str, Provider]:
        """By name; another object after each change of the configuration."""
        return self._rules.providers

    @property
    def policy(self) -> PolicySettings:
        return self._rules.policy

    def adopt(self, config: Config) -> None:
        """Replace providers, policy and keys by those of another configuration. Thread-safe; no I/O."""
        sources = key_sources_of(config.providers.values(), config.pool.accounts)
        self.book.adopt(_implicit(config), config.pool.accounts, sources)
        self._rules = Rules(config.providers, config.policy)
        self._listing.adopt()

    def follow(self, follow: Follow) -> None:
        """Hear by `follow` of what other hosts change, where accounts are in a database."""
        if isinstance(self.backend.store, Mirrored):
            self.backend.store.mirror.follow(follow)

    # -- giving credentials

    def resolve(self, name: str | None = None, *, min_ttl: float | None = None) -> Credential:
        """Return the account's credential, waiting for a refresh only if the present token is about to expire.

        `min_ttl` asks for that many seconds of life, as far as the provider grants it. Without a name the account is
        picked by TOKENFERRY_ACCOUNT, `tokenferry use`, or because it is the only one. If the one in use is limited or
        can't serve, the next account of its provider is used, which is logged. Raises
        `UnknownAccount`, `NeedsLogin`, `NeedsUnlock`, `RefreshBusy`, `RefreshFailed`, `RefreshUncertain`,
        `CredentialRefused`, `PolicyRefused`, `UnsafeFile`, `CorruptFile`.
        """
        warm = self._entries.get(name)
        if warm is not None and min_ttl is None and self._now() < warm.until:
            return warm.credential
        return self._resolver.resolve(name, min_ttl)

    async def aresolve(
        self, name: str | None = None, *, min_ttl: float | None = None, refused: Secret | None = None
    ) -> Credential:
        """`resolve` for asyncio. Cancelling it ends the wait, never the refresh.

        `refused` asks for another credential than this refused one: the account's present one, else that of one forced
        renewal. If the renewal fails, other callers still get the refused one, unlike after `invalidate`.
        """
        warm = self._entries.get(name)
        if warm is not None and min_ttl is None and refused is None and self._now() < warm.until:
            return warm.credential
        return await self._resolver.aresolve(name, min_ttl, refused)

    def fresh(self, name: str | None = None) -> Credential | None:
        """Return the account's credential if it may be handed out without I/O; None if it takes a `resolve`."""
        warm = self._entries.get(name)
        return warm.credential if warm is not None and self._now() < warm.until else None

    def settled_until(self, document: Document, *, min_ttl: float = 0.0) -> float:
        """Return until when `resolve` hands out the document's credential, in seconds since 1970 UTC; no I/O."""
        return self._resolver.settled_until(document, min_ttl)

    def invalidate(self, name: str | None, secret: Secret) -> None:
        """Report that the provider refused this token; `name` is the name it was resolved with.

        If the account has another token now, this does nothing. Else the next `resolve` reads the account again, and
        refreshes only if the refused token is still there.
        """
        self._resolver.invalidate(name, secret)

    def was_just_granted(self, credential: Credential) -> bool:
        """Whether a refresh made this token so recently that a 401 doesn't justify another one."""
        if not isinstance(credential, OAuthToken):
            return False
        return 0 <= granted_ago(credential, self._now()) < self.settings.settle

    def refresh(self, name: str | None = None) -> Credential:
        """Refresh now, however fresh the token. Raises what `resolve` raises."""
        name = self.book.choose(name)
        self._read(name)
        return self.renew(name).credential

    def renew(self, name: str | None = None, job: RefreshRequest | None = None) -> Document:
        """Refresh now and return the document, without checking the policy, which is about handing credentials out.

        The token family's owner decides whether that is allowed. A `job` may ask for less. Raises what `resolve`
        raises.
        """
        name = self.book.choose(name)
        self.provider_of(self.book.read(name).account)
        return self._resolver.renew(name, job)

    # -- knowing what there is

    def accounts(self) -> list[Account]:
        """Return the accounts in order (priority, then creation); follows other processes within a second."""
        return list(self.listing().accounts)

    def listed(self) -> tuple[Account, ...]:
        """Return the same as `accounts`: one object while nothing changes."""
        return self.listing().accounts

    def listing(self) -> AccountList:
        """Return the accounts in order, and those with an unreadable document."""
        return self._listing.get()

    def default_provider(self) -> str | None:
        """Return the provider of unmapped models: the recorded one, else the one that would be decided."""
        return self.book.listing().default_provider

    def set_default_provider(self, name: str) -> None:
        """Record the default provider, replacing any record. Raises `UnknownProvider`, `StorageFailed`."""
        self._rules.provider(name)
        self.book.set_default_provider(name)
        self._listing.forget()

    def record_default_provider(self, *, environment: bool = False) -> None:
        """Record the default provider if there is no record and an account may serve; call it before a change.

        Accounts of the environment decide it only if they serve (`environment`). A failed write is logged.
        """
        try:
            if self.book.default_provider() is not None:
                return
            accounts = self.book.listing().accounts
            decided = self._rules.default_provider(accounts, for_good=True, environment=environment)
            if decided is not None:
                self.book.settle_default_provider(decided)
                self._listing.forget()
        except TokenferryError as fault:
            logger.warning("the default provider could not be put on record: %s", fault)

    def provider_of(self, account: Account) -> Provider:
        """Raises `UnknownProvider`."""
        return self._rules.provider_of(account)

    def bills_subscription(self, account: Account, credential: Credential) -> bool:
        """Whether `[policy] subscriptions` applies to the account. Raises `UnknownProvider`."""
        return self._rules.bills_subscription(account, credential)

    def check_policy(self, document: Document) -> None:
        """Raise `PolicyRefused` unless the credential may be handed to others than Claude Code; `UnknownProvider`."""
        self._rules.check_policy(document)

    def check_keys(self, keys: "Iterable[ClientKey]", policy: PolicySettings | None = None) -> None:
        """Raise `PolicyRefused` if under `own-use` another person's key could be served by a subscription.

        `policy` is checked instead of the one in force. Revoked and expired keys are ignored.
        """
        rules = self._rules if policy is None else replace(self._rules, policy=policy)
        rules.check_keys(keys, self.book, self._now())

    def statistics(self, name: str) -> RefreshStatistics:
        """Return this process's statistics of the account's refreshes; no I/O."""
        return self._engine.statistics(name)

    def forced_renewals(self, name: str) -> ForcedRenewals:
        """Return the number of renewals in this process that refusals by the provider caused; no I/O."""
        return self._resolver.forced.statistics(name)

    def history(self, name: str) -> RefreshHistory:
        """Return the account's refreshes on disk, of all processes. Raises what reading the account raises."""
        obtained_at = getattr(self.book.read(name).credential, "obtained_at", None)
        return RefreshHistory(
            totals=MappingProxyType(dict(self.journal.totals(name))),
            last_failure=self.journal.failure(name),
            token_age=None if obtained_at is None else self._now() - obtained_at,
        )

    def add(
        self, account: Account, credential: Credential, *, replacing: bool = False, origin: Fields | None = None
    ) -> bool:
        """Store an account; True if it replaced one.

        Raises `UsageError` when the name is taken, and for a key that can't be one of the provider's vendor. An account
        without a `created_at` gets the present time. `origin` is where it was imported from, for its document.
        """
        provider = self.providers.get(account.provider)
        if fault := provider and provider.key_fault(credential):
            raise UsageError(f"the key given is not usable: {fault}; copy the key again, or name another --provider")
        if provider and provider.oauth.token_exchange and not isinstance(credential, ExchangedToken):
            raise UsageError(
                f"provider {provider.name!r} declares a token_exchange, and this credential was not exchanged; add it "
                f"with: tokenferry account add {account.name} --provider {provider.name}"
            )
        if not account.created_at:
            account = replace(account, created_at=int(self._now()))
        if isinstance(credential, ApiKey | SetupToken) and credential.obtained_at is None:
            credential = replace(credential, obtained_at=int(self._now()))  # the best estimate
        self.record_default_provider()
        has_replaced = self.book.add(account, credential, machine=self.machine, replacing=replacing, origin=origin)
        if has_replaced:
            with self.book.store.exclusive(account.name, self.settings.wait):
                try:
                    self.journal.attempt(account.name)
                except (CorruptFile, UnsafeFile):  # it belongs to the replaced login
                    self.journal.forget(account.name)
        self._listing.forget(account.name)
        self.record_default_provider()
        self.publisher.follow(account.name)
        return has_replaced

    def verify(self, account: Account, credential: Credential) -> Verification:
        """Ask the account's provider once, on a free route, whether it accepts the credential; at most 5 seconds.

        Nothing is renewed, stored or cooled down. Raises `PolicyRefused`, `UnknownProvider`; `UsageError` for a login
        of another program.
        """
        self.check_policy(Document(account, credential))
        if isinstance(credential, OAuthToken) and account.owner != "tokenferry":
            raise UsageError(
                f"account {account.name!r} is the login of {account.owner}, and only that program may use it; "
                "check it there"
            )
        return verify(self.provider_of(account), credential, self._send, self._now())

    def amend(self, name: str, changes: AccountChanges) -> Account:
        """Change an account's settings other than its credential, and return it.

        Running gateways follow within a second. Raises `UnknownAccount`, and `UsageError` for a change that this
        account doesn't allow.
        """
        account = self.book.amend(name, changes)
        self._listing.forget(name)
        return account

    def attach(self, account: Account) -> Credential:
        """Attach an account whose login is in another program's store, and return that login.

        Raises `UsageError` if the name is taken, or the login is already attached or of another provider, `NeedsLogin`
        if the login doesn't exist, and what reading it raises.
        """
        provider = self.provider_of(account)
        self.record_default_provider()
        document = self.book.attach(account, check=partial(check_attached, provider))
        self._listing.forget(account.name)
        self.record_default_provider()
        return document.credential

    def remove(self, name: str) -> str | None:
        """Remove an account and all its files, and return the provider that became the default one by it, if any.

        If it was the last account of the default provider, the other accounts decide the default provider, unless the
        operator chose it. Raises `UnknownAccount`, `UsageError`, `StorageFailed`.
        """
        self.record_default_provider()
        had_account = self._has_default_account()
        self.book.remove(name)
        self.journal.forget(name)
        forget_cooldowns(self.backend, name)
        self._listing.forget(name)
        self.publisher.withdraw(name)
        return self._decide_again() if had_account else None

    def login_endpoints(self, provider: Provider, *, device: bool = False) -> OAuthEndpoints:
        """Return a provider's login endpoints, as declared or from its issuer's metadata.

        `device` asks for those of a login on another device. Raises `RefreshFailed`, `ConfigError`, and `NeedsUnlock`
        if the login could not be stored.
        """
        return self._logins.endpoints(provider, device=device)

    def begin_login(self, provider: str) -> PendingLogin:
        """Start an OAuth login at the provider of that name: open its `url` in any browser, then `finish` it.

        Raises `UnknownProvider`, `UsageError` if the provider has no login, `PolicyRefused` for a subscription's login
        under `claude-code-only`, and what `login_endpoints` raises.
        """
        return PendingLogin.begin(self, self._logins, provider)

    def federate(self, provider: Provider, federation: Federation) -> FederatedToken:
        """Exchange a workload's identity token for its first access token, which `add` then stores.

        Raises `UsageError` if the provider declares no endpoint for it, `LoginFailed` if it refuses, `TryLater`,
        `NeedsUnlock`.
        """
        return self._logins.federate(provider, federation)

    def create_api_key(self, name: str, key_name: str) -> ApiKey:
        """Create an API key with the login `name`, and store it as the account `key_name`. The login stays.

        Raises `UsageError` if the new name is taken or the login's provider makes no keys, `LoginFailed` if the
        provider refuses, `TryLater`, and what `resolve` raises.
        """
        name = self.book.choose(name)
        account = self.book.read(name).account
        provider = self.provider_of(account)
        if provider.endpoints.api_key_url is None or account.kind != "oauth":
            raise UsageError(f"account {name!r} can't make API keys; use a login of a provider with an api_key_url")
        check_account_name(key_name)
        if key_name in self.book.store.names():
            raise UsageError(f"account {key_name!r} exists already; give the key another name")
        self.check_can_keep()
        credential = self.resolve(name)
        assert isinstance(credential, OAuthToken)
        key = self._logins.make_api_key(provider, credential)
        self.add(Account(key_name, account.provider, "api-key"), key)
        return key

    def exchanged(self, provider: Provider, credential: Credential) -> Credential:
        """Return the credential as an account of the provider stores it: exchanged if it declares a token_exchange.

        Raises `CredentialRefused` where the provider refuses it, `LoginFailed`, `TryLater`, `NeedsUnlock`.
        """
        if provider.oauth.token_exchange is None or isinstance(credential, ExchangedToken):
            return credential
        login = credential if isinstance(credential, OAuthToken) else None
        return self._logins.exchange_token(provider, credential.secret, login)

    def check_can_keep(self) -> None:
        """Raise `NeedsUnlock` or `SealKeyLost` if a new login could not be stored; call it before logging in."""
        self._logins.check_can_keep()

    def revoke(self, name: str) -> Revocation:
        """Revoke the account's login at its provider, if its token family is ours.

        Holds the account's lock, so that no refresh is in flight. Raises `UnknownAccount`, `LockTimeout`.
        """
        store = self.book.store
        if isinstance(store, Attaching) and store.is_attached(name):
            return Revocation()
        with store.exclusive(name, self.settings.wait):
            found = revocable(name, store, self.journal, self.machine)
            revocation = found if isinstance(found, Revocation) else self.revoke_token(*found)
        if revocation.is_done:
            logger.info("account %s: its login was revoked at its provider", name)
        elif revocation.reason:
            logger.info("account %s: its login was not revoked at its provider: %s", name, revocation.reason)
        return revocation

    def revoke_token(self, provider: str, token: OAuthToken) -> Revocation:
        """Revoke a login that no account holds, at the provider of that name. Raises nothing."""
        return self._logins.end(provider, token)

    def publish(self, name: str | None = None, profile: str | None = None, *, activate: bool = False) -> Publication:
        """Publish an account as a profile of the official SDKs, refreshed first if due.

        The profile has the account's name unless another is given. Every refresh rewrites it. Raises what `resolve`
        raises, `Conflict` for a profile that isn't ours, `UsageError` for an account that a profile can't hold.
        """
        name = self.book.choose(name)
        Content.of(name, self.resolve(name, min_ttl=_PUBLISHED_TTL), "")
        return self.publisher.publish(name, profile, activate=activate)

    def republish(self, name: str | None = None) -> list[Published]:
        """Rewrite the profiles that are behind their accounts, of one or of all, and return the state of each.

        The renewer calls it to finish what a killed process left undone. Raises nothing.
        """
        return self.publisher.republish(name)

    def refreshing(self) -> tuple[str, ...]:
        """Return the accounts with a refresh in flight in this process, sorted."""
        return self._engine.in_flight()

    def drain(self, timeout: float) -> bool:
        """Begin no further refresh and wait up to `timeout` seconds for those in flight; True if all have ended."""
        self._listing.watch.stop()
        return self._engine.drain(timeout)

    # -- internals

    def _has_default_account(self) -> bool:
        try:
            return self.book.listing().has_default_account
        except TokenferryError:  # a removal works all the same
            return False

    def _decide_again(self) -> str | None:
        """Let the accounts decide the default provider if the present one has none; return it if it is another one."""
        try:
            before = self.book.listing()
            if before.has_default_account or before.broken:  # of a broken one the provider isn't known
                return None
            self.book.unsettle_default_provider()
            self.record_default_provider()
            self._listing.forget()
            decided = self.book.listing().default_provider
        except (TokenferryError, OSError) as fault:
            logger.warning("the default provider could not be decided again: %s", fault)
            return None
        return None if decided == before.default_provider else decided

    def _decide_default(self, accounts: Sequence[Account]) -> str | None:
        return self._rules.default_provider(accounts)

    def _read(self, name: str) -> Document:
        """Read the document, if policy allows its use and it isn't too old; its key has its provider's header."""
        document = self.book.read(name, known=True)
        self.check_policy(document)
        check_age(document, self._now())
        if isinstance(key := document.credential, ApiKey):
            header = self.provider_of(document.account).key_header
            document = replace(document, credential=replace(key, header=header))
        elif isinstance(key, ExchangedToken) and key.endpoint is not None:
            self._check_endpoint(document.account, key.endpoint)
        return document

    def _check_endpoint(self, account: Account, endpoint: str) -> None:
        """Raise `CredentialRefused` if the declaration no longer allows requests to that address."""
        declared = self.provider_of(account).oauth.token_exchange or TokenExchange()
        if fault := declared.endpoint_fault(endpoint):
            raise CredentialRefused(f"account {account.name!r}: {fault}")


def _implicit(config: Config) -> dict[str, Document]:
    return {**accounts_from_environment(os.environ), **accounts_from_keys(config.keys)}
