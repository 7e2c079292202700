from collections.abc import Mapping, Sequence
from collections.abc import Set as AbstractSet
from types import MappingProxyType
from typing import Any, Final

import msgspec

from tokenferry.limits import Classification
from tokenferry.pool._account import Target
from tokenferry.pool._selection import PassedOver, Selection
from tokenferry.pool._steps import CredentialUnavailable, Move
from tokenferry.state import Cooldown

_SENT: Final = frozenset({"answered", "lost", "served", "unsent"})
_ORDINARY: Final = 2
_UNTRIED: Final[AbstractSet[str]] = frozenset()
_AVAILABLE: Final[Mapping[str, CredentialUnavailable]] = MappingProxyType({})
_REACHABLE: Final[Mapping[str, str]] = MappingProxyType({})
_STORED: Final[Mapping[Move, str]] = {
    "forward": "give",
    "again": "again",
    "renew": "renew",
    "account": "choose",
    "sibling": "sibling",
    "target": "provider",
}
"""The stored spelling of each move."""


class Wait(msgspec.Struct, frozen=True):
    """The seconds before the next attempt, and why."""

    seconds: float = 0.0
    why: str = ""


class AttemptStarted(msgspec.Struct, frozen=True):
    """An attempt, after a wait."""

    selection: Selection
    model: str
    wait: Wait


class TraceEvent(msgspec.Struct, frozen=True):
    """The outcome of an attempt, or another event."""

    kind: str
    account: str = ""
    fingerprint: str = ""
    status: int | None = None
    classification: Classification | None = None
    cooldown: Cooldown | None = None
    move: Move | None = None
    reason: str = ""


class Trace(msgspec.Struct, eq=False):
    """The history of one request, for the decision log and `tokenferry explain request`. It holds no secret.

    Failover writes it and reads from it what was tried. It outlives the failover.
    """

    began: float
    """In seconds of a monotonic clock, like the times of events."""
    events: list[tuple[float, AttemptStarted | TraceEvent]] = msgspec.field(default_factory=list)
    targets: Sequence[Target] = ()
    attempts: int = 0
    """The number of attempts that sent the request or are about to."""
    tried: AbstractSet[str] = _UNTRIED
    renewed: AbstractSet[str] = _UNTRIED
    """The accounts whose tokens were renewed."""
    unavailable: Mapping[str, CredentialUnavailable] = _AVAILABLE
    """The accounts without a credential."""
    unreachable: Mapping[str, str] = _REACHABLE
    """The unreachable providers, and why."""
    unfit: Mapping[str, str] = _REACHABLE
    """The providers to whose format the request can't be translated, and why."""
    last_error: TraceEvent | None = None
    considered: Sequence[PassedOver] = ()
    """The reasons against all accounts, if the client was rejected for them."""

    @property
    def is_ordinary(self) -> bool:
        """Whether the first attempt succeeded, so that there is little to report."""
        if len(self.events) != _ORDINARY:
            return False
        _, last = self.events[1]
        return isinstance(last, TraceEvent) and last.kind == "served"

    @property
    def passed_over(self) -> AbstractSet[str]:
        """The accounts that are not tried again."""
        return self.tried | self.unavailable.keys()

    def attempted(self, at: float, selection: Selection, model: str, wait: Wait) -> None:
        self.attempts += 1
        name = selection.account.name
        self.tried = self.tried | {name} if self.tried else frozenset((name,))
        self.events.append((at, AttemptStarted(selection, model, wait)))

    def had_no_credential(self, account: str, outcome: CredentialUnavailable) -> None:
        self.attempts -= 1  # nothing was sent
        if account in self.renewed:
            self.last_error = None  # the renewal may still succeed, so the refusal is not forwarded
        self.unavailable = {**self.unavailable, account: outcome}

    def note(self, at: float, event: TraceEvent) -> None:
        self.events.append((at, event))
        if event.classification is not None:
            self.last_error = event

    def last_of(self, account: str) -> TraceEvent | None:
        """Give the last event of this account."""
        found = (one for _, one in reversed(self.events) if isinstance(one, TraceEvent) and one.account == account)
        return next(found, None)

    def to_json(self) -> dict[str, Any]:
        """Give the history as JSON. Any thread may call it once the request has ended."""
        targets = self.targets
        return {
            "hops": [{"provider": target.group.provider, "model": target.model} for target in targets],
            "candidates": list(dict.fromkeys(one.name for target in targets for one in target.group.accounts)),
            "passed_over": self._passed_over(),
            "attempts": [
                {"account": one.account, "fingerprint": one.fingerprint, "status": one.status}
                for _, one in self.events
                if isinstance(one, TraceEvent) and one.kind in _SENT
            ],
            "steps": [_step(at - self.began, event) for at, event in self.events],
        }

    def _passed_over(self) -> list[dict[str, Any]]:
        found: dict[str, dict[str, Any]] = {}
        for _, event in self.events:
            if not isinstance(event, AttemptStarted):
                continue
            for account, (cooldown, _) in event.selection.candidates.blocked.items():
                why = cooldown.evidence or cooldown.cause
                one = {"account": account, "why": why, "cause": cooldown.cause, "until": cooldown.until}
                found.setdefault(account, one)
        tried = {event.selection.account.name for _, event in self.events if isinstance(event, AttemptStarted)}
        for passed_over in self.considered:
            if passed_over.account not in tried:
                found.setdefault(passed_over.account, passed_over.to_json())
        for account, outcome in self.unavailable.items():
            found.setdefault(account, {"account": account, "why": outcome.reason, "cause": None, "until": None})
        return list(found.values())


def _step(at: float, event: AttemptStarted | TraceEvent) -> dict[str, Any]:
    step: dict[str, Any] = {"ms": round(at * 1000)}
    if isinstance(event, AttemptStarted):
        selection = event.selection
        step |= {"what": "tried", "account": selection.account.name, "model": event.model, "why": selection.why}
        if event.wait.seconds:
            step |= {"wait_ms": round(event.wait.seconds * 1000), "wait_why": event.wait.why}
        if selection.probed is not None:
            step["probe"] = True
        return step
    step["what"] = event.kind
    step |= {key: value for key in ("account", "fingerprint", "status") if (value := getattr(event, key))}
    if event.move is not None:
        step["plan"] = _STORED[event.move]
    if event.reason:
        step["why"] = event.reason
    if (error := event.classification) is not None:
        step |= {"cause": error.cause, "scope": error.scope, "means": error.reason}
    if event.cooldown is not None:
        scope = event.cooldown.scope
        step["benched"] = {
            "kind": scope.kind,
            "name": scope.name,
            "family": scope.family,
            "until": event.cooldown.until,
        }
    return step
