import math
from collections.abc import Callable
from typing import TYPE_CHECKING, Final

from tokenferry.pool._account import AccountGroup, PoolAccount
from tokenferry.pool._cooldowns import ActiveCooldown, CooldownCache, end_of
from tokenferry.pool._probes import PAUSED, Probes
from tokenferry.pool._usage import LimitUsage
from tokenferry.settings import Overage, Strategy
from tokenferry.state import Cooldown, Scope

if TYPE_CHECKING:
    from tokenferry.pool._pick import Selection

OVERAGE: Final = "overage"
_STALE: Final = 10.0


class Candidates:
    """A roster as it stands for one kind of request: who may serve, best first, and who is benched.

    It holds as long as `until` lies ahead and nothing has changed, so that a choice needn't look at every account.
    """

    __slots__ = (
        "best",
        "blocked",
        "by_name",
        "probe_at",
        "ready",
        "reluctant",
        "resort_at",
        "roster",
        "until",
        "versions",
    )

    def __init__(self, roster: AccountGroup, versions: tuple[int, int], resort_at: float) -> None:
        self.roster = roster
        self.versions = versions
        self.resort_at = resort_at
        self.ready: tuple[PoolAccount, ...] = ()
        self.by_name: dict[str, PoolAccount] = {}
        self.reluctant: dict[str, ActiveCooldown] = {}
        """Those of the ready ones that serve only where no other can."""
        self.blocked: dict[str, ActiveCooldown] = {}
        self.best: Selection | None = None
        """What was chosen last by the order alone."""
        self.until = math.inf
        self.probe_at = math.inf
        """When the next benched one is due for a live probe."""


class CandidateBuilder:
    """Builds views."""

    def __init__(self, records: CooldownCache, usage: LimitUsage, probes: Probes) -> None:
        self._records = records
        self._usage = usage
        self._probes = probes

    def build(
        self,
        view: Candidates,
        *,
        allowed: frozenset[str] | None,
        family: str,
        model: str,
        strategy: Strategy,
        overage: Overage,
        now: float,
    ) -> Candidates:
        """Fill a view. `family` and `model` are those by which cooldowns are told apart."""
        narrow = tuple(dict.fromkeys(("", family, model)))
        ready: list[PoolAccount] = []
        for member in view.roster.members:
            if allowed is not None and member.name not in allowed:
                continue
            block = self._block(member, narrow, overage, now) if self._records or member.is_paused else None
            if block is None:
                ready.append(member)
                continue
            view.until = min(view.until, block.until)
            if overage == "avoid" and block.cooldown.cause == OVERAGE:
                view.reluctant[member.name] = block
            else:
                view.blocked[member.name] = block
        if key := self._key(strategy, family, now):
            ready.sort(key=key)
            view.until = min(view.until, now + _STALE)  # windows end meanwhile
        ready += [view.roster.by_name[name] for name in view.reluctant]
        view.ready = tuple(ready)
        view.by_name = {member.name: member for member in ready}
        view.probe_at = min(
            (self._probes.due(view.roster.by_name[name], block, now) for name, block in view.blocked.items()),
            default=math.inf,
        )
        return view

    def _block(
        self, member: PoolAccount, narrow: tuple[str, ...], overage: Overage, now: float
    ) -> ActiveCooldown | None:
        """What holds the longest of all that stands against a member."""
        if member.is_paused:
            return _paused(member)
        found = self._records.of("account", member.name, narrow)
        if organization := self.organization_of(member):
            found += self._records.of("organization", organization, narrow)
        applying = [
            ActiveCooldown(one, end_of(one))
            for one in found
            if end_of(one) > now and (one.cause != OVERAGE or overage != "allow")
        ]
        # One that may not serve at all counts before one that is merely the last resort.
        return max(applying, key=lambda block: (block.cooldown.cause != OVERAGE, block.until), default=None)

    def organization_of(self, member: PoolAccount) -> str:
        """The organization whose limits it shares; none for a subscription, whose limits are its own."""
        if member.bills_subscription:
            return ""
        return self._records.organizations.get(member.name, member.organization)

    def _key(self, strategy: Strategy, family: str, now: float) -> Callable[[PoolAccount], tuple[float, float]] | None:
        match strategy:
            case "least-utilised":
                # In steps of 2 %, so that the order doesn't change with every answer.
                return lambda member: (int(self._usage.utilization(member.name, family, now) * 50), 0.0)
            case "drain-soonest-reset":
                return lambda member: self._usage.reset(member.name, family, now)
            case "priority" | "round-robin":
                return None


def _paused(member: PoolAccount) -> ActiveCooldown:
    reason = f"It is paused; resume it with: tokenferry accounts resume {member.name}."
    return ActiveCooldown(Cooldown(Scope("account", member.name), PAUSED, "operator", None, reason), math.inf)
