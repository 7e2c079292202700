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
    """An account of a pool. `organization` is the one in its credential, if any; answers may name it later."""

    name: str
    provider: str
    kind: Kind = "api-key"
    priority: int = DEFAULT_PRIORITY
    organization: str = ""
    bills_subscription: bool = False
    """Whether its limits are its own, not shared with its organization's keys."""
    has_usage_url: bool = False
    """Whether its provider reports at no cost how much of its limits is used."""
    paused_until: float = 0.0
    """The end of a pause in seconds since 1970 UTC; infinity until it is resumed, 0 without a pause."""
    has_command: bool = False
    """Whether a command prints its key, which may change."""

    @property
    def can_renew(self) -> bool:
        """Whether a refused token can be replaced."""
        return self.has_command or self.kind in {"oauth", "federated", "exchanged"}


class AccountGroup(Struct, frozen=True, eq=False):
    """The accounts of one provider, by priority. Make a new group when they change: it is compared by identity."""

    provider: str
    accounts: tuple[PoolAccount, ...]
    strategy: Strategy | None = None
    """None for the strategy of `[pool]`."""
    wire_format: WireFormat = "anthropic"
    by_name: dict[str, PoolAccount] = field(default_factory=dict)

    def __post_init__(self) -> None:
        ordered = tuple(sorted(self.accounts, key=lambda account: account.priority))
        force_setattr(self, "accounts", ordered)
        force_setattr(self, "by_name", {account.name: account for account in ordered})


class Target(Struct, frozen=True):
    """A provider that may serve a request, and its name for the model."""

    group: AccountGroup
    model: str
    max_output_tokens: int | None = None
    """The output limit of translated requests, if the mapping sets one."""
    drop: tuple[str, ...] = ()
    """Prefixes of the types of server tools that translated requests leave out."""
    efforts: tuple[str, ...] | None = None
    """The reasoning efforts that the model takes, if the mapping lists them."""


class Criteria(Struct, frozen=True):
    """What a request demands of an account."""

    affinity: str = ""
    """The key by which requests stay on one account, from `affinity_key`; empty for none."""
    allowed: frozenset[str] | None = None
    """The accounts that the client key may use; None for all."""
    pinned: str | None = None
    """The only account that may serve it."""
    side: str = ""
    """The path of a side route, such as count_tokens; empty for messages. Its refusals say nothing about messages."""
    tokens: int = 0
    """The tokens that it is expected to use, if a rate counts them."""

    @property
    def client(self) -> str:
        """The client that `affinity_key` was given."""
        return self.affinity.partition("\n")[0]


def affinity_key(client: str, *, session: str = "", agent: str = "", declared: str = "") -> str:
    """Give the affinity key: session and agent, or else the declared header's value, or else the client.

    The client is always part of the key, so that no client moves the sessions of others.
    """
    if session:
        return f"{client}\n{session[:_LONGEST_PART]}\n{agent[:_LONGEST_PART]}"
    return f"{client}\n={declared[:_LONGEST_PART]}" if declared else client


def account_group(provider: Provider, accounts: Iterable[Account]) -> AccountGroup:
    """Give the accounts of a provider as a group; those of other providers are left out."""
    own = {account.name: account for account in accounts if may_use(provider, account)}
    names = own if provider.accounts is None else [name for name in provider.accounts if name in own]
    ordered = tuple(_pool_account(provider, own[name], is_listed=provider.accounts is not None) for name in names)
    return AccountGroup(provider.name, ordered, provider.strategy, provider.dialect)


def may_use(provider: Provider, account: Account) -> bool:
    """Whether an account is this provider's, or another one's at the same vendor that this provider lists."""
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
        # The account in use comes first; the provider's list replaces priorities.
        _FIRST if account.in_use else 0 if is_listed else account.priority,
        bills_subscription=is_subscription,
        has_usage_url=provider.usage_url is not None and account.kind == "oauth",
        paused_until=0.0 if not account.paused else account.paused_until or math.inf,
        has_command=account.store in FETCHED,
    )
