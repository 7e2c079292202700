"""Whether a gateway can serve: the accounts that may, and the action that each of the others needs."""

import time

from msgspec import Struct
from msgspec.structs import replace

from tokenferry.accounts import check_age
from tokenferry.broker import Broker
from tokenferry.cli._describe import row
from tokenferry.config import Config
from tokenferry.credentials import OAuthToken
from tokenferry.errors import ConfigError, NeedsLogin, PolicyRefused, TokenferryError, TryLater, UnknownAccount
from tokenferry.readiness import ANYONE, active_cooldowns, cooldown_sentence, resolver_of
from tokenferry.refresh import seconds_left
from tokenferry.routing import NoRoute
from tokenferry.settings import Home
from tokenferry.stores import Document

_DEAD = frozenset(("needs-login", "copied"))


class Readiness(Struct, frozen=True):
    """The accounts that may serve; if there are none, the reason, and whether Claude Code itself has a login."""

    ready: tuple[str, ...]
    reason: TokenferryError | None = None
    is_claude_codes: bool = False

    def check(self) -> None:
        """Raise the reason if no account may serve."""
        if self.reason is not None:
            raise self.reason


def readiness(broker: Broker, config: Config, account: str | None = None) -> Readiness:
    """Look at every account that may get requests, or only at the pinned one. Sends and refreshes nothing.

    Raises `UnknownAccount` for a pinned account that doesn't exist.
    """
    if account is not None:
        broker.book.read(account)
        config = replace(config, router=replace(config.router, account=account))
    listing = broker.book.listing()
    pinned = config.router.account
    members, no_route = _members(config, broker)
    faults = {name: _fault(broker, name) for name in members}
    ready = tuple(name for name, fault in faults.items() if fault is None)
    if ready:
        return Readiness(ready)
    asked = [one for one in listing.accounts if pinned in {None, one.name}]
    is_claude_codes = any(
        one.owner == "claude-code" and isinstance(_fault(broker, one.name), PolicyRefused) for one in asked
    )
    broken = (fault for name, fault in listing.broken.items() if pinned in {None, name})
    reason = next((fault for fault in (*faults.values(), *broken) if fault is not None), None)
    if reason is None and not listing.accounts:
        reason = UnknownAccount(
            "there is no account yet; add one with: tokenferry account add NAME --provider anthropic"
        )
    return Readiness((), reason or ConfigError(no_route), is_claude_codes)


def limits(home: Home, broker: Broker, names: tuple[str, ...]) -> list[str]:
    """A sentence per account if every one of them is limited now; else none."""
    now = time.time()
    try:
        found, organizations = active_cooldowns(home, now)
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
        lines.append(cooldown_sentence(held, organizations, now))
    return list(dict.fromkeys(lines))


def _members(config: Config, broker: Broker) -> tuple[list[str], str]:
    """The accounts that may get requests, in order; and the reason if there are none."""
    resolver = resolver_of(config, broker)
    found: dict[str, None] = {}
    no_route = "no account may serve"
    for model in (None, *(one.name for one in config.models)):
        plan = resolver.resolve_model(model, ANYONE)
        if isinstance(plan, NoRoute):
            no_route = plan.message if model is None else no_route
            continue
        for target in plan.targets:
            found |= dict.fromkeys(one for one in target.group.by_name if plan.pinned in {None, one})
    return list(found), no_route


def _fault(broker: Broker, name: str) -> TokenferryError | None:
    """The fault that keeps an account from serving until a user acts."""
    now = time.time()
    try:
        document = broker.book.read(name)
        broker.check_policy(document)
        check_age(document, now)
        found = row(broker, name, now)
    except TryLater:
        return None  # a locked keyring, for example
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
    """For a login that can move to Claude Code: the command for that."""
    account, credential = document.account, document.credential
    if account.owner != "tokenferry" or not isinstance(credential, OAuthToken) or credential.refresh is None:
        return None
    return PolicyRefused(
        f"account {account.name!r} is billed to a Claude subscription, which is for Claude Code alone, and run hands "
        f"no program a login; move it to Claude Code with: tokenferry claude-code switch {account.name}; or, if "
        "it is yours alone and you read the vendor's terms: tokenferry policy set own-use"
    )
