"""Whether a gateway could serve: what keeps each account from it that no time mends."""

import time
from collections.abc import Iterator
from dataclasses import dataclass

from tokenferry.accounts import check_age
from tokenferry.broker import Broker
from tokenferry.cli._cooldowns import at_work, sentence
from tokenferry.cli._describe import row
from tokenferry.config import Config
from tokenferry.credentials import OAuthToken
from tokenferry.errors import ConfigError, NeedsLogin, PolicyRefused, TokenferryError, TryLater, UnknownAccount
from tokenferry.pool import roster_of
from tokenferry.refresh import seconds_left
from tokenferry.settings import Home
from tokenferry.stores import Account, Document

_DEAD = frozenset(("needs-login", "copied"))


@dataclass(frozen=True, slots=True)
class Readiness:
    """The accounts that may serve, and the reason of each other one, in the order in which they are asked."""

    ready: tuple[str, ...]
    faults: tuple[tuple[Account | None, TokenferryError], ...]

    @property
    def belongs_to_claude_code(self) -> bool:
        """Whether nothing may serve, and a login is there that Claude Code has itself."""
        return not self.ready and any(
            isinstance(fault, PolicyRefused) and account is not None and account.owner == "claude-code"
            for account, fault in self.faults
        )

    def check(self) -> None:
        """Raise the first reason if nothing may serve."""
        if not self.ready:
            raise self.faults[0][1]


def readiness(broker: Broker, config: Config, account: str | None = None) -> Readiness:
    """Look at every account that requests could go to, or only at the one that is pinned. Nothing is asked or renewed.

    Raises `UnknownAccount` if there is no account, `ConfigError` if the configuration lets none serve.
    """
    listing = broker.book.listing()
    accounts = listing.accounts
    pinned = account or config.gateway.account
    if account is not None:
        broker.book.read(account)
    elif pinned is not None and pinned not in {one.name for one in accounts} | set(listing.broken):
        raise ConfigError(
            f"[gateway] account names {pinned!r}, which does not exist; name another in config.toml, or see: "
            "tokenferry accounts list"
        )
    if not accounts and not listing.broken:
        raise UnknownAccount("there is no account yet; add one with: tokenferry accounts add NAME --provider anthropic")
    by_name = {one.name: one for one in accounts}
    members = [name for name in _members(config, accounts) if pinned in {None, name}]
    broken = {name: fault for name, fault in listing.broken.items() if pinned in {None, name}}
    if not members and not broken:
        named = f"account {pinned}" if pinned else f"none of the accounts ({', '.join(by_name)})"
        raise ConfigError(
            f"{named} may serve: no enabled provider that requests go to has it; correct [[providers]] and [gateway] "
            "in config.toml, or see: tokenferry route --dry-run"
        )
    ready: list[str] = []
    faults: list[tuple[Account | None, TokenferryError]] = []
    for name in members:
        fault = _fault(broker, name)
        if fault is None:
            ready.append(name)
        else:
            faults.append((by_name[name], fault))
    return Readiness(tuple(ready), (*faults, *((None, fault) for fault in broken.values())))


def limits(home: Home, broker: Broker, names: tuple[str, ...]) -> list[str]:
    """A sentence for each of these accounts if every one of them is limited now."""
    now = time.time()
    try:
        found, organizations = at_work(home, now)
    except TokenferryError:
        return []
    whole = {(one.scope.kind, one.scope.name): one for one in found if not one.scope.family}
    lines = []
    for name in names:
        provider = broker.book.read(name).account.provider
        places = (("account", name), ("organization", organizations.get(name, "")), ("provider", provider))
        held = next((whole[place] for place in places if place in whole), None)
        if held is None:
            return []
        lines.append(sentence(held, organizations, now))
    return list(dict.fromkeys(lines))


def _members(config: Config, accounts: tuple[Account, ...]) -> Iterator[str]:
    """The accounts of the providers that requests may go to, in the order of their pools."""
    mapped = [mapping.provider for model in config.models for mapping in model.mappings]
    names = dict.fromkeys((*(config.gateway.providers or config.providers), *mapped))
    for name in names:
        provider = config.providers.get(name)
        if provider is not None and provider.is_served:
            yield from (member.name for member in roster_of(provider, accounts).members)


def _fault(broker: Broker, name: str) -> TokenferryError | None:
    """What keeps an account from serving until somebody does something about it."""
    now = time.time()
    try:
        document = broker.book.read(name)
        broker.check_policy(document)
        check_age(document, now)
        found = row(broker, name, now)
    except TryLater:
        return None  # a locked keyring, say
    except PolicyRefused as fault:
        return _policy(document) or fault
    except TokenferryError as fault:
        return fault
    if found.fault is not None:
        return found.fault
    credential = document.credential
    lives = isinstance(credential, OAuthToken) and seconds_left(credential, now) > 0
    if found.state in _DEAD and not lives:
        return NeedsLogin(f"account {name!r} {found.text}; log in again with: tokenferry login {name}")
    return None


def _policy(document: Document) -> PolicyRefused | None:
    """For a login that could be moved to Claude Code: how."""
    account, credential = document.account, document.credential
    if account.owner != "tokenferry" or not isinstance(credential, OAuthToken) or credential.refresh is None:
        return None
    return PolicyRefused(
        f"account {account.name!r} is billed to a Claude subscription, which is for Claude Code alone, and run hands "
        f"no program a login; move it to Claude Code with: tokenferry use {account.name} --for claude-code; or, if it "
        "is yours alone and you read the vendor's terms: tokenferry policy set own"
    )
