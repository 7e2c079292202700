from collections.abc import Callable, Mapping, Sequence
from collections.abc import Set as AbstractSet
from types import MappingProxyType
from typing import TYPE_CHECKING, Any, Final, Literal, TypeAlias

from tokenferry.limits import Classification, classify, read_limits
from tokenferry.pool._account import Criteria, PoolAccount, Target
from tokenferry.pool._bench import benches, is_about_an_account
from tokenferry.pool._choice import PassedOver
from tokenferry.pool._exhausted import (
    Reason,
    at_capacity,
    attempts_exhausted,
    considered,
    exhausted,
    not_allowed,
    reasons,
    unreachable,
)
from tokenferry.pool._pick import Headers, Selection, text_headers
from tokenferry.pool._steps import Forward, Reject, SendAttempt, Step, WaitForCapacity
from tokenferry.pool._trace import AttemptStarted, Trace, TraceEvent, Unavailable
from tokenferry.state import Cooldown

if TYPE_CHECKING:
    from tokenferry.pool._pool import Pool

Plan: TypeAlias = Literal["choose", "again", "renew", "sibling", "provider", "give", "over"]

_IN_PLACE: Final = 2
_ORDINARY: Final = 2  # it was tried, and served
_FIRST_WAIT: Final = 0.5
_LONGEST_WAIT: Final = 10.0
_LOOK: Final = 1.0
_FUZZ: Final = 60.0
_RESORTS: Final = 3
_GIVE: Final = Forward()
_NOBODY: Final[AbstractSet[str]] = frozenset()
_NOTHING: Final[Mapping[str, Unavailable]] = MappingProxyType({})


def _do_nothing() -> None:
    pass


class Journey:
    """One request on its way over accounts and providers, without I/O: what comes next, by what came before.

    Ask `next` for a step, do it, report what came of it with one of the methods below, and ask again, until a step is
    `Forward` or `Reject`, or `served` was reported. Then, or wherever it ends, call `close`.
    """

    fingerprint = ""
    """Of the credential that is presented; set it before reporting, for the story."""
    wake: Callable[[], None] = staticmethod(_do_nothing)
    """Called when a place is free for a journey in the queue. Set it before the first `next`."""
    attempts = 0
    """How often something was to be sent."""

    # How it begins; most requests are over before any of it changes.
    _plan: Plan = "choose"
    _at = 0
    _wait = 0.0
    _turn = 0.0
    _in_place = 0
    _resorts = 0
    _pick: Selection | None = None
    _busy: PoolAccount | None = None
    _granted: Selection | None = None
    _last: Classification | None = None
    _has_benched = False
    _is_at_the_end = False
    _tried: AbstractSet[str] = _NOBODY
    _earlier: AbstractSet[str] = _NOBODY
    _renewed: AbstractSet[str] = _NOBODY
    _unavailable: Mapping[str, Unavailable] = _NOTHING
    _unreachable: Mapping[str, str] = MappingProxyType({})
    _considered: Sequence[PassedOver] = ()
    _has_hopped = False
    _is_probing = False
    _is_queued = False

    def __init__(self, pool: "Pool", hops: Sequence[Target], want: Criteria) -> None:
        self.want = want
        self._pool = pool
        self._settings = pool.settings
        self._hops = hops if len(hops) == 1 else pool.order(hops)
        self._began = pool.monotonic()
        self._events: list[tuple[float, AttemptStarted | TraceEvent]] = []

    @property
    def story(self) -> Trace:
        """What has befallen it until now."""
        return Trace(self._hops, self._began, tuple(self._events), self._unavailable, self._considered)

    @property
    def is_ordinary(self) -> bool:
        """Whether nothing but a good answer of the first account that was asked has befallen it."""
        return self.attempts <= 1 and len(self._events) <= _ORDINARY

    # -- asking

    def next(self) -> Step:
        """What is to be done now."""
        if self._is_queued or self._granted is not None:
            return self._after_queue()
        match self._plan:
            case "choose":
                return self._go_on()
            case "again" | "renew":
                assert self._pick is not None
                return self._try(self._pick, wait=self._wait, renew=self._plan == "renew")
            case "sibling":
                return self._to_sibling()
            case "provider":
                self._next_provider()
                return self._go_on()
            case _:
                return _GIVE

    # -- reporting

    def served(self, headers: Headers, status: int = 200) -> None:
        """A good answer came, and goes to the client from here on: nothing is ever sent again."""
        assert self._pick is not None
        self._plan = "over"
        at = self._pool.monotonic()
        self._events.append((at, TraceEvent("served", self._pick.member.name, self.fingerprint, status)))
        self._pool.served(self._hops[self._at], self.want, self._pick, headers, at)
        if self._is_probing:
            self._end_probe(has_failed=False)

    def answered(self, status: int, headers: Headers, body: bytes) -> None:
        """An answer came that went to nobody yet: an error, or a stream whose first event is one.

        `body` is all of it, or of a stream what came before content. Keep the answer: `Forward` may ask for it.
        """
        pick, hop, pool = self._sent()
        fields = text_headers(headers)
        now, wire_format = pool.now(), hop.roster.wire_format
        verdict = classify(status, fields, body, now=now, provider_format=wire_format)
        state = read_limits(fields, now=now, provider_format=wire_format)
        pool.told(pick.member, state, is_side=bool(self.want.side))
        self._last = verdict
        may_wait = fields.get("x-should-retry", "").strip().lower() != "false"
        told_wait = state.retry_after or 0.0
        benched = self._decide(verdict, pick, hop, may_wait=may_wait and told_wait <= _LONGEST_WAIT, wait=told_wait)
        self._leave(TraceEvent("answered", pick.member.name, self.fingerprint, status, verdict, benched, self._plan))

    def unsent(self, reason: str) -> None:
        """No connection came about, or not all of the request was sent: it can't have been served."""
        pick, hop, pool = self._sent()
        self._end_probe(has_failed=None)
        provider = hop.roster.provider
        is_first = provider not in self._unreachable
        self._unreachable = {**self._unreachable, provider: reason}
        if is_first and not self._has_more():
            self._repeat(_FIRST_WAIT / 2)
        else:
            pool.unreachable(provider)
            self._plan = "provider"
        self._leave(TraceEvent("unsent", pick.member.name, self.fingerprint, reason=reason, plan=self._plan))

    def lost(self, reason: str) -> None:
        """The request was sent, and its answer timed out or was cut off: it may have been paid for."""
        pick, _, _ = self._sent()
        self._end_probe(has_failed=None)
        self._plan = "give"
        self._leave(TraceEvent("lost", pick.member.name, self.fingerprint, reason=reason, plan="give"))

    def unavailable(self, reason: str, retry_after: float | None = None) -> None:
        """The account has no credential to present now. `retry_after` is in seconds.

        Where the refused one was to be renewed, and that may go well later, the answer that refused it counts no more.
        """
        pick, _, pool = self._sent()
        if self._plan == "renew":
            self._last = None
        self._end_probe(has_failed=None)
        pool.rest(pick.member, reason, retry_after)
        self._unavailable = {**self._unavailable, pick.member.name: Unavailable(reason, retry_after)}
        self.attempts -= 1  # nothing was sent
        self._plan = "choose"
        self._leave(TraceEvent("unavailable", pick.member.name, reason=reason, plan="choose"))

    def not_renewed(self, reason: str) -> None:
        """There is no other token than the refused one; the answer that refused it is still held."""
        pick, hop, _ = self._sent()
        assert self._last is not None
        benched = self._bench(self._last, pick, hop)
        self._end_probe(has_failed=True)
        self._plan = "choose"
        self._leave(
            TraceEvent(
                "not renewed", pick.member.name, verdict=self._last, benched=benched, reason=reason, plan="choose"
            )
        )

    def close(self) -> None:
        """The request has ended: served, given up by its client, or anything else. Harmless when it has."""
        self._plan = "over"
        if self._busy is not None:
            self._release()
        if self._is_probing:
            self._end_probe(has_failed=None)
        if self._is_queued:
            self._leave_queue()
        if self._granted is not None:
            self._pool.end(self._granted.member)
            self._granted = None

    # -- what an answer means for the way

    def _decide(self, verdict: Classification, pick: Selection, hop: Target, *, may_wait: bool, wait: float) -> Any:
        is_refused_login = verdict.action == "refresh" and self._may_renew(pick.member, hop)
        benched = None
        if not is_refused_login:
            benched = self._bench(verdict, pick, hop)
            self._end_probe(has_failed=self._has_failed(verdict))
        match verdict.action:
            case "return":
                self._plan = "give"
            case "refresh" if is_refused_login:
                self._renewed |= {pick.member.name}
                self._plan, self._wait = "renew", 0.0
            case "refresh" | "fail-over":
                self._plan = "choose"
            case "hop":
                self._hop()
            case "retry":
                if self._has_more() or self._in_place or not may_wait:
                    self._plan = "provider"
                else:
                    self._repeat(max(_FIRST_WAIT, wait))
            case "retry-then-hop":
                self._overloaded(may_wait=may_wait, wait=wait)
            case "next-provider":
                self._plan = "provider"
        return benched

    def _hop(self) -> None:
        """To one other account of this target at most, then to the next target; if there is neither, it ends."""
        if not self._has_hopped:
            self._plan, self._has_hopped = "sibling", True
        else:
            self._plan = "provider" if self._has_more() else "give"

    def _overloaded(self, *, may_wait: bool, wait: float) -> None:
        if self._has_hopped:
            self._plan = "provider"
            return
        has_other = self._has_more() or len(self._hops[self._at].roster.members) > 1
        if may_wait and self._in_place < (1 if has_other else _IN_PLACE):
            self._repeat(max(_FIRST_WAIT * 2**self._in_place, wait))
        else:
            self._plan, self._has_hopped = "sibling", True

    def _repeat(self, least: float) -> None:
        """Once more the same, after so many seconds up to twice as many."""
        self._in_place += 1
        self._plan, self._wait = "again", least * self._pool.rng.uniform(1.0, 2.0)

    def _bench(self, verdict: Classification, pick: Selection, hop: Target) -> Cooldown | None:
        benched = self._pool.bench(self._hops, hop, self.want, pick, verdict, fingerprint=self.fingerprint)
        self._has_benched = benched is not None
        return benched

    def _may_renew(self, member: PoolAccount, hop: Target) -> bool:
        if not member.can_renew or member.name in self._renewed:
            return False
        # A side route that refuses a token for good doesn't cost one renewal after the other.
        return not self.want.side or not self._pool.is_aside(member.name, hop, self.want)

    @staticmethod
    def _has_failed(verdict: Classification) -> bool | None:
        return True if benches(verdict) and is_about_an_account(verdict) else None

    # -- finding the way

    def _choose(self) -> Selection | None:
        is_first = not self.attempts and not self._unavailable and self.want.pinned is None
        return self._pool.pick(self._hops[self._at], self.want, self._passed(), is_first=is_first)

    def _passed(self) -> AbstractSet[str]:
        return self._tried | self._unavailable.keys() if self._unavailable else self._tried

    def _go_on(self) -> Step:
        while self._at < len(self._hops):
            if (pick := self._choose()) is not None:
                return self._try(pick)
            self._next_provider()
        return self._at_the_end()

    def _to_sibling(self) -> Step:
        """To one other account; of this provider if it has one."""
        if (sibling := self._choose()) is not None:
            return self._try(sibling)
        if self._has_more():
            self._next_provider()
            return self._go_on()
        self._plan = "give"
        return _GIVE

    def _has_more(self) -> bool:
        return self._at + 1 < len(self._hops)

    def _next_provider(self) -> None:
        self._at += 1
        if not self._is_at_the_end:  # else every target was asked already
            self._earlier |= self._tried
            self._tried = _NOBODY
        self._in_place, self._has_hopped = 0, False

    def _try(self, pick: Selection, *, wait: float = 0.0, renew: bool = False, turn: float | None = None) -> Step:
        pool, name = self._pool, pick.member.name
        at = pool.monotonic()
        if pool.load.is_capped and turn is None:
            wait = max(wait, pool.load.pause(name, at))
        if self.attempts >= self._settings.attempts or self._settings.total - (at - self._began) < wait:
            pool.probed(pick, has_failed=None)
            if turn is not None:
                pool.end(pick.member)
            return self._refuse(attempts_exhausted(self.attempts, self._spent()))
        if self._busy is not None:
            pool.load.pace(name, at)
        elif turn is None:
            pool.load.take(name, at)
        self._pick, self._busy, self._is_probing = pick, pick.member, pick.block is not None
        self._tried = self._tried | {name} if self._tried else frozenset((name,))
        self.attempts += 1
        hop = self._hops[self._at]
        wait = wait if turn is None else turn
        self._events.append((at, AttemptStarted(pick, hop.model, wait)))
        return SendAttempt(hop, pick.member, wait, renew, self._is_probing)

    def _at_the_end(self) -> Step:
        """Nobody is ready."""
        self._is_at_the_end = True
        self._tried = self._earlier | self._tried
        tried = self._passed()
        hops = list(enumerate(self._hops))
        for at, hop in hops if self._pool.has_aside else ():
            if (left := self._pool.pick(hop, self.want, tried, takes_aside=True)) is not None:
                self._at = at
                return self._try(left)
        for at, hop in hops if self._pool.load.is_capped else ():
            if (found := self._pool.next_turn(hop, self.want, tried)) is not None:
                pick, pause = found
                if pause > self._left() or pause * self._pool.load.caps(pick.member.name).rate > self._settings.queue:
                    return self._refuse(at_capacity())
                self._at = at
                return self._try(pick)
        if any(self._pool.is_full(hop, self.want, tried) for _, hop in hops if self._pool.load.is_capped):
            return self._queue()
        for at, hop in hops if self._resorts < _RESORTS else ():
            if (last := self._pool.last_resort(hop, self.want, tried)) is not None:
                self._at = at
                self._resorts += 1
                return self._try(last)
        return self._end()

    def _end(self) -> Step:
        """What the client is told in the end."""
        if self._last is None and self._unreachable:
            return self._refuse(unreachable(self._unreachable))
        self._considered = considered(self._pool, self._hops, self.want)
        told = reasons(self._considered, self.story, self._pool.now())
        if not told:
            return self._refuse(not_allowed(self._hops))
        is_held = self._last is not None
        is_the_accounts = any(one.is_limit for one in told)
        is_passing = is_held and (not is_the_accounts or self._last_was_passing() or not self._has_benched)
        refusal = exhausted(told, self._pool.now())
        if not is_passing and (is_the_accounts or all(one.is_unavailable for one in told)):
            self._pool.news.exhausted([one.account for one in told], refusal.message)
        if is_passing or (is_held and len(told) == 1 and not self._holds_longer(told[0])):
            self._plan = "give"
            return _GIVE
        if not is_held and all(one.is_unavailable for one in told):
            self._plan = "give"
            return _GIVE
        return self._refuse(refusal)

    def _last_was_passing(self) -> bool:
        """Whether the answer that is held is about no account, so that it is the truest there is."""
        return self._last is not None and self._last.scope in {"request", "transient", "provider"}

    def _holds_longer(self, one: Reason) -> bool:
        """Whether something else keeps the account from serving for longer than the answer that is held says."""
        told = None if self._last is None else self._last.until
        return told is not None and one.until is not None and one.until > told + _FUZZ

    def _refuse(self, refusal: Reject) -> Reject:
        self._plan = "over"
        self._release()
        self._note(TraceEvent("refused", status=refusal.status, reason=refusal.message))
        return refusal

    # -- waiting for a place

    def _queue(self) -> Step:
        if len(self._pool.waiting) >= self._settings.queue or self._left() <= 0:
            return self._refuse(at_capacity())
        self._is_queued = True
        self._pool.waiting.append(self)
        self._note(TraceEvent("queued"))
        return WaitForCapacity(min(self._left(), _LOOK))

    def offer(self, member: PoolAccount) -> bool:
        """Take the place that is free there, if it may serve this request."""
        tried = self._earlier | self._tried | self._unavailable.keys()
        for at, hop in enumerate(self._hops):
            if (pick := self._pool.pick_only(hop, self.want, tried, member)) is not None:
                self._at, self._granted, self._turn = at, pick, self._pool.begin(member)
                self._is_queued = False
                self.wake()
                return True
        return False

    def _after_queue(self) -> Step:
        if self._granted is not None:
            pick, self._granted = self._granted, None
            return self._try(pick, turn=self._turn)
        if (left := self._left()) <= 0:
            self._leave_queue()
            return self._refuse(at_capacity())
        tried = self._earlier | self._tried | self._unavailable.keys()
        for at, hop in enumerate(self._hops):
            # A cooldown may have ended meanwhile, which hands no place on.
            if (found := self._pool.pick(hop, self.want, tried)) is not None:
                self._leave_queue()
                self._at = at
                return self._try(found)
        return WaitForCapacity(min(left, _LOOK))

    def _leave_queue(self) -> None:
        if self._is_queued:
            self._is_queued = False
            self._pool.waiting.remove(self)

    # -- keeping count

    def _left(self) -> float:
        return self._settings.total - self._spent()

    def _spent(self) -> float:
        return self._pool.monotonic() - self._began

    def _sent(self) -> tuple[Selection, Target, "Pool"]:
        """What was tried last, which has ended."""
        assert self._pick is not None
        return self._pick, self._hops[self._at], self._pool

    def _note(self, event: AttemptStarted | TraceEvent) -> None:
        self._events.append((self._pool.monotonic(), event))

    def _leave(self, event: TraceEvent) -> None:
        """What was tried has come to nothing. Its place is kept for one more try of the same."""
        if self._plan not in {"again", "renew"}:
            self._release()
        self._note(event)

    def _release(self) -> None:
        if self._busy is not None:
            member, self._busy = self._busy, None
            self._pool.end(member)

    def _end_probe(self, *, has_failed: bool | None) -> None:
        if self._is_probing:
            assert self._pick is not None
            self._is_probing = False
            self._pool.probed(self._pick, has_failed=has_failed)
