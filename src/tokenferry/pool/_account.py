import math
import sys
from collections.abc import Iterable
from typing import Final

from msgspec import Struct, field
from msgspec.structs import force_setattr

from tokenferry.credentials import Kind
from tokenferry.limits import WireFormat
from tokenferry.providers import Provider
from tokenferry.settings import Strategy
from tokenferry.stores import DEFAULT_PRIORITY, FETCHED, Account

_LONGEST_PART = 128
_FIRST: Final = -sys.maxsize


class PoolAccount(Struct, frozen=True):
    """An account of a pool. `organization` is what its credential says, if it says so; answers tell it, too."""

    name: str
    provider: str
    kind: Kind = "api-key"
    priority: int = DEFAULT_PRIORITY
    organization: str = ""
    bills_subscription: bool = False
    """Whether its limits are its own, and not those of its organization's keys."""
    has_usage_url: bool = False
    """Whether its provider can be asked, at no cost, how much of its limits is used up."""
    paused_until: float = 0.0
    """Until when its owner has taken it out of service, in seconds since 1970 UTC; infinity for until it is resumed."""
    has_command: bool = False
    """Whether a command prints its key, which may have changed."""

    @property
    def can_renew(self) -> bool:
        """Whether another token can be had for a refused one."""
        return self.has_command or self.kind in {"oauth", "federated", "exchanged"}


class AccountGroup(Struct, frozen=True, eq=False):
    """The accounts of one provider, in their order. Make a new one when they change: it is compared by identity."""

    provider: str
    accounts: tuple[PoolAccount, ...]
    strategy: Strategy | None = None
    """None for that of `[pool]`."""
    wire_format: WireFormat = "anthropic"
    by_name: dict[str, PoolAccount] = field(default_factory=dict)

    def __post_init__(self) -> None:
        ordered = tuple(sorted(self.accounts, key=lambda account: account.priority))
        force_setattr(self, "accounts", ordered)
        force_setattr(self, "by_name", {account.name: account for account in ordered})


class Target(Struct, frozen=True):
    """One provider that may serve a request, and what it calls the model."""

    group: AccountGroup
    model: str
    max_output_tokens: int | None = None
    """The most output of the model in a translated request, where its mapping says it."""
    drop: tuple[str, ...] = ()
    """The server tools that a translated request goes without, by the beginnings of their types."""
    efforts: tuple[str, ...] | None = None
    """The reasoning efforts that the model takes in a translated request, where its mapping says it."""


class Criteria(Struct, frozen=True):
    """What a request asks of the pool."""

    affinity: str = ""
    """What is kept on one account, by `affinity_key`; empty for nothing."""
    allowed: frozenset[str] | None = None
    """The accounts that its client key may use; None for all."""
    pinned: str | None = None
    """The only account that may serve it."""
    side: str = ""
    """The path of a route beside messages, such as that of count_tokens; empty for messages. What it is refused for
    says nothing about messages."""
    tokens: int = 0
    """Those that it is expected to use, where a rate counts them."""

    @property
    def client(self) -> str:
        """Whose request it is, as `affinity_key` was given it."""
        return self.affinity.partition("\n")[0]


def affinity_key(client: str, *, session: str = "", agent: str = "", declared: str = "") -> str:
    """What a request is kept together by: its session and agent, else the declared header's value, else its client.

    The client is always part of it, so that no client moves the sessions of others.
    """
    if session:
        return f"{client}\n{session[:_LONGEST_PART]}\n{agent[:_LONGEST_PART]}"
    return f"{client}\n={declared[:_LONGEST_PART]}" if declared else client


def account_group(provider: Provider, accounts: Iterable[Account]) -> AccountGroup:
    """The accounts of a provider as a pool takes them, in their order; those of others are left out."""
    own = {account.name: account for account in accounts if may_use(provider, account)}
    names = own if provider.accounts is None else [name for name in provider.accounts if name in own]
    ordered = tuple(_pool_account(provider, own[name], is_listed=provider.accounts is not None) for name in names)
    return AccountGroup(provider.name, ordered, provider.strategy, provider.dialect)


def may_use(provider: Provider, account: Account) -> bool:
    """Tell whether an account is this provider's, or is lent to it by another one at the same vendor's."""
    if account.provider == provider.name:
        return True
    is_listed = provider.accounts is not None and account.name in provider.accounts
    return is_listed and account.provider == provider.provider_type and provider.is_at_vendor


def _pool_account(provider: Provider, account: Account, *, is_listed: bool) -> PoolAccount:
    is_subscription = provider.subscription or account.kind == "setup-token" or account.owner == "claude-code"
    return PoolAccount(
        account.name,
        provider.name,
        account.kind,
        # The account in use goes before any order, and the provider's list is an order of its own.
        _FIRST if account.in_use else 0 if is_listed else account.priority,
        bills_subscription=is_subscription,
        has_usage_url=provider.usage_url is not None and account.kind == "oauth",
        paused_until=0.0 if not account.paused else account.paused_until or math.inf,
        has_command=account.store in FETCHED,
    )
