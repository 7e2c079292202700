import math
from collections.abc import Callable, Sequence
from collections.abc import Set as AbstractSet
from hashlib import blake2b
from typing import Final

from msgspec.structs import replace

from tokenferry.pool._account import AccountGroup, Criteria, PoolAccount, Target
from tokenferry.pool._affinity import Affinity, AffinityTable
from tokenferry.pool._capacity import Capacity
from tokenferry.pool._cooldowns import key_of
from tokenferry.pool._probes import OF_CREDENTIALS, PAUSED
from tokenferry.pool._recent_refusals import RecentRefusals, Subject
from tokenferry.pool._selection import CandidateCache, Candidates, Choice, PassedOver, Selection
from tokenferry.pool._unconfirmed import UnconfirmedRefusals
from tokenferry.settings import Strategy

# In a shorter cooldown a session uses a fallback and returns: its prompt stays in the provider's cache for so long.
_CACHED: Final = 300.0
_BACK_OFF: Final = 1.0
_LONGEST_BACK_OFF: Final = 30.0
_NO_ACCOUNTS: Final[AbstractSet[str]] = frozenset()
_LATER: Final = "it could serve, but comes later"
_WORDS: Final[dict[Strategy, str]] = {
    "priority": "it comes first in order",
    "round-robin": "it is its turn",
    "least-utilised": "it has used the least of its limits",
    "drain-soonest-reset": "its limit resets first",
}


def subject_of(target: Target, criteria: Criteria) -> Subject:
    """Give the subject for which a refusal of the request is remembered."""
    return ("route", criteria.side) if criteria.side else ("model", target.model)


class Selector:
    """Selects the account of a group that serves a request, by strategy, affinity, cooldowns, probes and caps.

    `now` gives seconds since 1970 UTC, `monotonic` seconds of a monotonic clock.
    """

    def __init__(
        self,
        candidates: CandidateCache,
        capacity: Capacity,
        refusals: RecentRefusals,
        unconfirmed: UnconfirmedRefusals,
        *,
        now: Callable[[], float],
        monotonic: Callable[[], float],
        is_shared: bool = False,
    ) -> None:
        """`is_shared` where other hosts have the same accounts: in turn, each finds the same one for a conversation."""
        self._is_shared = is_shared
        self._candidates = candidates
        self._capacity = capacity
        self._recent_refusals = refusals
        self._unconfirmed = unconfirmed
        self._now = now
        self._monotonic = monotonic
        self._affinities = AffinityTable()
        self._turns: dict[str, int] = {}
        self._backing_off: dict[str, tuple[float, str]] = {}
        self.down: dict[str, float] = {}
        """Until when an unreachable provider comes last, on the monotonic clock."""

    @property
    def has_recent_refusals(self) -> bool:
        """Whether any account recently refused a model or route."""
        return bool(self._recent_refusals)

    def select(
        self,
        target: Target,
        criteria: Criteria,
        tried: AbstractSet[str] = _NO_ACCOUNTS,
        *,
        is_first: bool = False,
        takes_refused: bool = False,
    ) -> Selection | None:
        """Select the next account; None if none is ready. `is_first`: a due recovery probe may be selected.

        Accounts that recently refused this model or route are left out unless `takes_refused`.
        """
        now, at = self._now(), self._monotonic()
        candidates = self._candidates.get(target, criteria, now, at)
        if (
            is_first
            and candidates.probe_at <= now
            and candidates.ready
            and not criteria.side
            and (probe := self._probe(candidates, now, at, criteria.tokens))
        ):
            return probe
        passed = (
            tried
            if takes_refused or not self._recent_refusals
            else tried | self._recent_refusals.accounts(subject_of(target, criteria), at)
        )
        if len(target.group.accounts) == 1:  # no affinity is needed
            return self._best(candidates, passed, at, criteria.tokens)
        provider = target.group.provider
        affinity = self._affinities.get(provider, criteria.affinity, at) if criteria.affinity else None
        if affinity is not None and (account := self._follow(affinity, candidates, passed, at, criteria.tokens)):
            return Selection(account, "its session uses this account", candidates)
        best = self._best(candidates, passed, at, criteria.tokens, criteria.affinity)
        if best is None:
            return None
        name = best.account.name
        if affinity is None:
            if criteria.affinity:
                self._affinities.pin(provider, criteria.affinity, name, at)
        elif self._is_gone(affinity.account, candidates, now):
            self._affinities.pin(provider, criteria.affinity, name, at)
        elif not tried:
            affinity.fallback = name
        return best

    def select_probe(self, target: Target, criteria: Criteria, tried: AbstractSet[str]) -> Selection | None:
        """Select an account in a cooldown whose recovery probe is due, when no other account can serve.

        A side route can't probe limits of messages; it may use accounts that only these limits block.
        """
        now, at = self._now(), self._monotonic()
        candidates = self._candidates.get(target, criteria, now, at)
        for name, active in sorted(candidates.blocked.items(), key=lambda item: item[1].until):
            account = candidates.group.by_name[name]
            if name in tried or not self._capacity.is_free(account, at, criteria.tokens):
                continue
            if criteria.side:
                if active.cooldown.cause not in OF_CREDENTIALS | {PAUSED}:
                    return Selection(account, "its cooldown concerns messages, not this route", candidates)
                continue
            if self._unconfirmed.may_try(key_of(active.cooldown), criteria.client):
                self._candidates.probes.begin(active, now)
                return Selection(
                    account,
                    "no other account is left, and the refusal may be due to another request",
                    candidates,
                    active,
                )
            if self._candidates.probes.due(account, active, now, is_last_resort=True) <= now:
                self._candidates.probes.begin(active, now)
                return Selection(account, "no other account is left, and it may have recovered", candidates, active)
        return None

    def report(self, target: Target, criteria: Criteria, tried: AbstractSet[str] = _NO_ACCOUNTS) -> Choice:
        """Give the account that would serve, and why no other. It changes no state; it is slow."""
        now, at = self._now(), self._monotonic()
        candidates = self._candidates.get(target, criteria, now, at)
        affinity = self._affinities.peek(target.group.provider, criteria.affinity, at)
        refusing = self._recent_refusals.accounts(subject_of(target, criteria), at)
        tokens = criteria.tokens
        account = None if affinity is None else self._follow(affinity, candidates, tried | refusing, at, tokens)
        reason = "its session uses this account"
        if account is None:
            passes = (tried | refusing, tried)
            conversation = criteria.affinity
            found = (self._first(candidates, passed, at, tokens, conversation, takes_turn=False) for passed in passes)
            account = next(filter(None, found), None)
            reason = "" if account is None else self._why(account, target.group, conversation)
        others = [
            self._status_of(one, candidates, criteria, tried, at) for one in candidates.group.accounts if one != account
        ]
        why = f"it refused this {subject_of(target, criteria)[0]} less than 5 minutes ago, so others come first"
        passed_over = (
            replace(one, reason=why) if one.account in refusing and one.reason == _LATER else one for one in others
        )
        return Choice(account, reason, tuple(passed_over))

    def ready(self, target: Target, criteria: Criteria, tried: AbstractSet[str]) -> list[PoolAccount]:
        """Give the ready accounts in order, with or without capacity."""
        candidates = self._candidates.get(target, criteria, self._now(), self._monotonic())
        return [one for one in candidates.ready if one.name not in tried]

    def select_only(
        self, target: Target, criteria: Criteria, tried: AbstractSet[str], account: PoolAccount
    ) -> Selection | None:
        """Select this account, if it is ready."""
        candidates = self._candidates.get(target, criteria, self._now(), self._monotonic())
        found = candidates.by_name.get(account.name)
        if found is None or found.provider != account.provider or account.name in tried:
            return None
        return Selection(found, "it was the first with capacity", candidates)

    def end_probe(self, selection: Selection, *, has_failed: bool | None) -> None:
        """End a probe. `has_failed` is None for an unknown result."""
        if selection.probed is not None:
            self._candidates.probes.end(selection.probed, has_failed=has_failed)
            self._candidates.clear()

    def has_refused(self, name: str, target: Target, criteria: Criteria) -> bool:
        """Whether the account refused such a request less than 5 minutes ago."""
        return name in self._recent_refusals.accounts(subject_of(target, criteria), self._monotonic())

    def back_off(self, account: PoolAccount, reason: str, seconds: float | None) -> None:
        """Let others come first for a moment, since the account has no credential."""
        pause = min(max(seconds or _BACK_OFF, _BACK_OFF), _LONGEST_BACK_OFF)
        self._backing_off[account.name] = (self._monotonic() + pause, reason)

    def remember(self, targets: Sequence[Target], criteria: Criteria, name: str) -> None:
        """Assign a session to the account that served it."""
        for target in targets:
            if name in target.group.by_name and criteria.affinity:
                self._affinities.pin(target.group.provider, criteria.affinity, name, self._monotonic())

    def order(self, targets: Sequence[Target]) -> Sequence[Target]:
        """Order the targets: those whose provider is down come last."""
        self._candidates.cooldowns.refresh()
        if len(targets) < 2 or not (self.down or self._candidates.cooldowns):  # noqa: PLR2004  # one has no order
            return targets
        now, at = self._now(), self._monotonic()
        return sorted(targets, key=lambda target: self._is_down(target.group.provider, now, at))

    def unreachable(self, provider: str) -> None:
        """Let other providers come first for a moment, since no connection was possible."""
        self.down[provider] = self._monotonic() + _BACK_OFF * 5

    def _strategy(self, group: AccountGroup) -> Strategy:
        return group.strategy or self._candidates.settings.strategy

    def _is_by_hash(self, group: AccountGroup, conversation: str) -> bool:
        return self._is_shared and bool(conversation) and self._strategy(group) == "round-robin"

    def _why(self, account: PoolAccount, group: AccountGroup, conversation: str = "") -> str:
        if self._is_by_hash(group, conversation):
            return "its conversation falls to it, on every host"
        strategy = self._strategy(group)
        if strategy == "priority" and account.name != group.accounts[0].name:
            return "it is the first in order that can serve"
        return _WORDS[strategy]

    def _follow(
        self, affinity: Affinity, candidates: Candidates, tried: AbstractSet[str], at: float, tokens: int
    ) -> PoolAccount | None:
        for name in (affinity.account, affinity.fallback):
            account = candidates.by_name.get(name) if name is not None else None
            if (
                account is not None
                and name not in tried
                and self._may_stay(account, candidates)
                and self._is_free(account, at, tokens)
            ):
                return account
        return None

    def _may_stay(self, account: PoolAccount, candidates: Candidates) -> bool:
        """Whether a session may stay here. By priority, it returns to a better account that has recovered."""
        if account.name in candidates.reluctant:
            return candidates.ready[0].name in candidates.reluctant
        return self._strategy(candidates.group) != "priority" or account.priority <= candidates.ready[0].priority

    def _is_gone(self, name: str, candidates: Candidates, now: float) -> bool:
        """Whether the account is blocked for so long that the session moves."""
        account = candidates.by_name.get(name)
        if account is not None:
            return not self._may_stay(account, candidates)
        active = candidates.blocked.get(name)
        return active is None or active.until - now > _CACHED

    def _is_free(self, account: PoolAccount, at: float, tokens: int) -> bool:
        """Whether the account has capacity and is not backing off."""
        if self._backing_off and (pause := self._backing_off.get(account.name)):
            if pause[0] > at:
                return False
            del self._backing_off[account.name]
        return self._capacity.is_free(account, at, tokens)

    def _status_of(
        self, one: PoolAccount, candidates: Candidates, criteria: Criteria, tried: AbstractSet[str], at: float
    ) -> PassedOver:
        if (active := candidates.blocked.get(one.name)) is not None:
            cooldown = active.cooldown
            return PassedOver(one.name, cooldown.evidence or cooldown.cause, cooldown.until, cooldown.cause)
        if one.name not in candidates.by_name:
            pinned = (
                f"the request is pinned to {criteria.pinned}" if criteria.pinned else "its client key may not use it"
            )
            return PassedOver(one.name, pinned, is_allowed=False)
        if one.name in tried:
            return PassedOver(one.name, "it was tried")
        pause = self._backing_off.get(one.name)
        reason = pause[1] if pause is not None and pause[0] > at else self._capacity.reason(one, at)
        billed = candidates.reluctant.get(one.name)
        if not reason and billed is not None:
            return PassedOver(one.name, "its use is billed beyond its subscription", billed.cooldown.until)
        delay = self._capacity.delay(one, at, criteria.tokens) if reason else 0.0
        return PassedOver(one.name, reason or _LATER, math.ceil(self._now() + delay) if delay else None)

    def _best(
        self, candidates: Candidates, tried: AbstractSet[str], at: float, tokens: int, conversation: str = ""
    ) -> Selection | None:
        """Select the first free account in order. Most requests get the same cached selection."""
        account = self._first(candidates, tried, at, tokens, conversation)
        if account is None:
            return None
        if self._is_shared and self._is_by_hash(candidates.group, conversation):
            return Selection(account, self._why(account, candidates.group, conversation), candidates)
        best = candidates.best
        if best is None or best.account is not account:
            best = candidates.best = Selection(account, self._why(account, candidates.group), candidates)
        return best

    def _first(
        self,
        candidates: Candidates,
        tried: AbstractSet[str],
        at: float,
        tokens: int,
        conversation: str = "",
        *,
        takes_turn: bool = True,
    ) -> PoolAccount | None:
        ready = candidates.ready
        if len(ready) > 1 and self._is_by_hash(candidates.group, conversation):
            ready = _by_hash(candidates, conversation)
            free = (one for one in ready if one.name not in tried and self._is_free(one, at, tokens))
            return next(free, None) or self._backing_off_one(candidates, tried, at, tokens)
        if len(ready) > 1 and self._strategy(candidates.group) == "round-robin":
            return self._next_in_turn(candidates, tried, at, tokens, takes_turn=takes_turn)
        are_free = not (self._backing_off or self._capacity.is_capped)
        for account in ready:
            if account.name not in tried and (are_free or self._is_free(account, at, tokens)):
                return account
        return self._backing_off_one(candidates, tried, at, tokens)

    def _next_in_turn(
        self, candidates: Candidates, tried: AbstractSet[str], at: float, tokens: int, *, takes_turn: bool
    ) -> PoolAccount | None:
        ready, provider = candidates.ready, candidates.group.provider
        not_reluctant = len(ready) - len(candidates.reluctant) or len(ready)
        turn = self._turns.get(provider, 0)
        for place in range(len(ready)):
            account = ready[(turn + place) % not_reluctant if place < not_reluctant else place]
            if account.name not in tried and self._is_free(account, at, tokens):
                if takes_turn:
                    self._turns[provider] = turn + place + 1
                return account
        return self._backing_off_one(candidates, tried, at, tokens)

    def _backing_off_one(
        self, candidates: Candidates, tried: AbstractSet[str], at: float, tokens: int
    ) -> PoolAccount | None:
        """Give an account that had no credential a moment ago, if there is no other."""
        if not self._backing_off:
            return None
        found = (one for one in candidates.ready if one.name not in tried)
        return next((one for one in found if self._capacity.is_free(one, at, tokens)), None)

    def _probe(self, candidates: Candidates, now: float, at: float, tokens: int) -> Selection | None:
        due = {
            name: self._candidates.probes.due(candidates.group.by_name[name], active, now)
            for name, active in candidates.blocked.items()
        }
        free = (candidates.group.by_name[name] for name, when in due.items() if when <= now)
        chosen = next((one.name for one in free if self._capacity.is_free(one, at, tokens)), None)
        if chosen is None:
            return None
        self._candidates.probes.begin(candidates.blocked[chosen], now)
        del due[chosen]
        candidates.probe_at = min(due.values(), default=math.inf)
        return Selection(
            candidates.group.by_name[chosen],
            "it is in a cooldown, and may have recovered",
            candidates,
            candidates.blocked[chosen],
        )

    def _is_down(self, provider: str, now: float, at: float) -> bool:
        if self.down.get(provider, 0.0) > at:
            return True
        return any(not one.is_over(now) for one in self._candidates.cooldowns.of("provider", provider))


def _by_hash(candidates: Candidates, conversation: str) -> tuple[PoolAccount, ...]:
    """The accounts that may serve, in an order of the conversation's own (rendezvous hashing).

    Where one is missing on one host the others have the same order there.
    """

    def weight(account: PoolAccount) -> tuple[bool, bytes]:
        text = f"{conversation}\0{account.name}".encode("utf-8", "surrogatepass")
        return account.name in candidates.reluctant, blake2b(text, digest_size=8).digest()

    return tuple(sorted(candidates.ready, key=weight))
