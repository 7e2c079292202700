from dataclasses import dataclass, field

from tokenferry.credentials import Kind
from tokenferry.limits import WireFormat
from tokenferry.settings import Strategy
from tokenferry.stores import DEFAULT_PRIORITY

_LONGEST_PART = 128


@dataclass(frozen=True, slots=True)
class PoolAccount:
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
    is_paused: bool = False
    """Its owner has taken it out of service."""

    @property
    def can_renew(self) -> bool:
        """Whether another token can be had for a refused one."""
        return self.kind in {"oauth", "federated"}


@dataclass(frozen=True, slots=True, eq=False)
class AccountGroup:
    """The accounts of one provider, in their order. Make a new one when they change: it is told apart by identity."""

    provider: str
    members: tuple[PoolAccount, ...]
    strategy: Strategy | None = None
    """None for that of `[pool]`."""
    wire_format: WireFormat = "anthropic"
    by_name: dict[str, PoolAccount] = field(init=False, repr=False)

    def __post_init__(self) -> None:
        ordered = tuple(sorted(self.members, key=lambda member: member.priority))
        object.__setattr__(self, "members", ordered)
        object.__setattr__(self, "by_name", {member.name: member for member in ordered})


@dataclass(frozen=True, slots=True)
class Target:
    """One provider that may serve a request, and what it calls the model."""

    roster: AccountGroup
    model: str


@dataclass(frozen=True, slots=True)
class Criteria:
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

    @property
    def client(self) -> str:
        """Whose request it is, as `affinity_key` was given it."""
        return self.affinity.partition("\n")[0]


def affinity_key(client: str, *, session: str = "", agent: str = "", declared: str = "") -> str:
    """What a request is kept together by: its session and agent, else the declared header's value, else its client.

    The client is always part of it, so that nobody moves the sessions of others.
    """
    if session:
        return f"{client}\n{session[:_LONGEST_PART]}\n{agent[:_LONGEST_PART]}"
    return f"{client}\n={declared[:_LONGEST_PART]}" if declared else client
