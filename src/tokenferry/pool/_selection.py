"""The candidates for a kind of request, the selected account, and the reasons against the others."""

import math
from collections.abc import Callable
from functools import lru_cache
from typing import Any, Final

import msgspec
from msgspec import Struct

from tokenferry.limits import model_family
from tokenferry.pool._account import AccountGroup, Criteria, PoolAccount, Target
from tokenferry.pool._cooldowns import ActiveCooldown, CooldownCache, end_of
from tokenferry.pool._probes import PAUSED, Probes
from tokenferry.pool._usage import LimitUsage
from tokenferry.settings import Overage, PoolSettings, Strategy
from tokenferry.state import CLOCK_ERROR, Cooldown, Scope

OVERAGE: Final = "overage"
_STALE: Final = 10.0
_RESORT: Final = 1.0
_MOST_KNOWN: Final = 512
_OF_LIMITS: Final = frozenset(
    {
        "billing",
        "daily-quota",
        "no-credit",
        "no-extra-usage",
        "no-quota",
        "overage",
        "rate-limit",
        "rate-limited",
        "rejected",
        "spend-limit",
        "usage-limit",
        "window",
    }
)

family_of = lru_cache(1024)(model_family)


class Candidates:
    """The accounts of a group for one kind of request: the ready ones, best first, and those in a cooldown.

    It is valid from `since` until `until` or the next change, so that a selection need not look at every account.
    """

    __slots__ = (
        "best",
        "blocked",
        "by_name",
        "group",
        "probe_at",
        "ready",
        "reluctant",
        "resort_at",
        "since",
        "until",
        "versions",
    )

    def __init__(self, group: AccountGroup, versions: tuple[int, int], now: float, resort_at: float) -> None:
        self.group = group
        self.versions = versions
        self.resort_at = resort_at
        self.ready: tuple[PoolAccount, ...] = ()
        self.by_name: dict[str, PoolAccount] = {}
        self.reluctant: dict[str, ActiveCooldown] = {}
        """The ready accounts that serve only if no other can."""
        self.blocked: dict[str, ActiveCooldown] = {}
        self.best: Selection | None = None
        """The last selection by order."""
        self.since = now - CLOCK_ERROR
        """Before it the clock was set back, and cooldowns are judged again."""
        self.until = math.inf
        self.probe_at = math.inf
        """When the next recovery probe is due."""


class Selection(msgspec.Struct, frozen=True):
    """The selected account, and why. `probed` is the cooldown that a recovery probe tests."""

    account: PoolAccount
    why: str
    candidates: Candidates
    probed: ActiveCooldown | None = None


class CandidateCache:
    """Builds and caches the candidates of each group and kind of request."""

    def __init__(self, settings: PoolSettings, cooldowns: CooldownCache, usage: LimitUsage) -> None:
        self.settings = settings
        self.cooldowns = cooldowns
        self.probes = Probes()
        self._usage = usage
        self._known: dict[tuple[AccountGroup, frozenset[str] | None, str, str], Candidates] = {}

    def configure(self, settings: PoolSettings) -> None:
        self.settings = settings
        self.clear()

    def clear(self) -> None:
        self._known.clear()

    def get(self, target: Target, criteria: Criteria, now: float, at: float) -> Candidates:
        """Give the candidates. `now` is in seconds since 1970 UTC, `at` in seconds of a monotonic clock."""
        cooldowns = self.cooldowns
        if cooldowns.incoming is not None:
            cooldowns.refresh()
        group, allowed = target.group, criteria.allowed
        if criteria.pinned is not None:
            allowed = frozenset((criteria.pinned,)) if allowed is None or criteria.pinned in allowed else frozenset()
        family = model = ""
        if cooldowns.narrow:
            named = family_of(target.model)
            family = named if named in cooldowns.narrow else ""
            model = target.model if target.model in cooldowns.narrow else ""
        strategy = group.strategy or self.settings.strategy
        is_by_usage = strategy in {"least-utilised", "drain-soonest-reset"}
        if is_by_usage:
            family = family_of(target.model)
        key = (group, allowed, family, model)
        candidates = self._known.get(key)
        if (
            candidates is not None
            and candidates.since <= now < candidates.until
            and candidates.versions[0] == cooldowns.version
            and (not is_by_usage or candidates.versions[1] == self._usage.version or candidates.resort_at > at)
        ):
            return candidates
        if len(self._known) >= _MOST_KNOWN:
            self._known.clear()
        candidates = Candidates(group, (cooldowns.version, self._usage.version), now, at + _RESORT)
        self._known[key] = self._build(
            candidates,
            allowed=allowed,
            family=family,
            model=model,
            strategy=strategy,
            overage=self.settings.overage,
            now=now,
        )
        return candidates

    def _build(
        self,
        candidates: Candidates,
        *,
        allowed: frozenset[str] | None,
        family: str,
        model: str,
        strategy: Strategy,
        overage: Overage,
        now: float,
    ) -> Candidates:
        """Fill in the accounts. `family` and `model` are empty unless they have their own cooldowns."""
        narrow = tuple(dict.fromkeys(("", family, model)))
        ready: list[PoolAccount] = []
        for account in candidates.group.accounts:
            if allowed is not None and account.name not in allowed:
                continue
            active = (
                self._active_cooldown(account, narrow, overage, now) if self.cooldowns or account.paused_until else None
            )
            if active is None:
                ready.append(account)
                continue
            candidates.until = min(candidates.until, active.until)
            if overage == "avoid" and active.cooldown.cause == OVERAGE:
                candidates.reluctant[account.name] = active
            else:
                candidates.blocked[account.name] = active
        if key := self._key(strategy, family, now):
            ready.sort(key=key)
            candidates.until = min(candidates.until, now + _STALE)  # a window may end
        ready += [candidates.group.by_name[name] for name in candidates.reluctant]
        candidates.ready = tuple(ready)
        candidates.by_name = {account.name: account for account in ready}
        candidates.probe_at = min(
            (
                self.probes.due(candidates.group.by_name[name], active, now)
                for name, active in candidates.blocked.items()
            ),
            default=math.inf,
        )
        return candidates

    def _active_cooldown(
        self, account: PoolAccount, narrow: tuple[str, ...], overage: Overage, now: float
    ) -> ActiveCooldown | None:
        """Give the cooldown of an account that ends last."""
        if account.paused_until > now:
            return _paused(account)
        found = self.cooldowns.of("account", account.name, narrow)
        if organization := self.organization_of(account):
            found += self.cooldowns.of("organization", organization, narrow)
        applying = [
            ActiveCooldown(one, end_of(one))
            for one in found
            if not one.is_over(now) and (one.cause != OVERAGE or overage != "allow")
        ]
        # A blocked account counts before one that is only reluctant.
        return max(applying, key=lambda active: (active.cooldown.cause != OVERAGE, active.until), default=None)

    def organization_of(self, account: PoolAccount) -> str:
        """Give the organization whose limits the account shares; empty for a subscription, which has its own."""
        if account.bills_subscription:
            return ""
        return self.cooldowns.organizations.get(account.name, account.organization)

    def _key(self, strategy: Strategy, family: str, now: float) -> Callable[[PoolAccount], tuple[float, float]] | None:
        match strategy:
            case "least-utilised":
                # In steps of 2 %, so that not every answer changes the order.
                return lambda account: (int(self._usage.utilization(account.name, family, now) * 50), 0.0)
            case "drain-soonest-reset":
                return lambda account: self._usage.reset(account.name, family, now)
            case "priority" | "round-robin":
                return None


def how_to_resume(name: str) -> str:
    """Give the command that resumes a paused account, as the end of a sentence."""
    return f"; resume it with: tokenferry account resume {name}"


def _paused(account: PoolAccount) -> ActiveCooldown:
    end = account.paused_until
    reason = f"It is paused{how_to_resume(account.name)}." if end == math.inf else "It is paused."
    until = None if end == math.inf else int(end)
    return ActiveCooldown(Cooldown(Scope("account", account.name), PAUSED, "operator", until, reason), end)


class PassedOver(Struct, frozen=True):
    """An account that was not selected, and why. `until` is in seconds since 1970 UTC, if known."""

    account: str
    reason: str
    until: int | None = None
    cause: str = ""
    """The cause of its cooldown."""
    is_allowed: bool = True
    """Whether the request may use it."""

    @property
    def is_limit(self) -> bool:
        """Whether a limit blocks it, so that waiting or paying helps."""
        return self.cause in _OF_LIMITS

    def to_json(self) -> dict[str, Any]:
        return {"account": self.account, "why": self.reason, "cause": self.cause or None, "until": self.until}


class Choice(Struct, frozen=True):
    """The account of a group that would serve, and why not the others."""

    account: PoolAccount | None
    reason: str
    """Why this account; empty for none."""
    passed_over: tuple[PassedOver, ...]
    """The other accounts of the group, in order."""

    @property
    def considered(self) -> tuple[PassedOver, ...]:
        """All accounts that the request may use, blocked or not."""
        chosen = () if self.account is None else (PassedOver(self.account.name, "is ready"),)
        return (*chosen, *(one for one in self.passed_over if one.is_allowed))
