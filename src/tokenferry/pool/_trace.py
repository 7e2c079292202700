from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Final, NamedTuple

from tokenferry.limits import Classification
from tokenferry.pool._account import Target
from tokenferry.pool._choice import PassedOver
from tokenferry.pool._pick import Selection
from tokenferry.state import Cooldown

_SENT: Final = frozenset({"answered", "lost", "served", "unsent"})


class AttemptStarted(NamedTuple):
    """A request was to be sent, after `wait` seconds."""

    pick: Selection
    model: str
    wait: float


class TraceEvent(NamedTuple):
    """What came of it, or befell the request otherwise."""

    kind: str
    account: str = ""
    fingerprint: str = ""
    status: int | None = None
    verdict: Classification | None = None
    benched: Cooldown | None = None
    plan: str = ""
    reason: str = ""


class Unavailable(NamedTuple):
    """Why an account had no credential, and in how many seconds it may have one."""

    reason: str
    retry_after: float | None


@dataclass(frozen=True, slots=True)
class Trace:
    """What befell a request, for `tokenferry why`. Nothing in it is secret."""

    hops: Sequence[Target]
    began: float
    """By a clock that doesn't jump, as the events' times are."""
    events: Sequence[tuple[float, AttemptStarted | TraceEvent]]
    unavailable: Mapping[str, Unavailable]
    """By account."""
    refused: Sequence[PassedOver] = ()
    """Why none of the accounts could serve, where that is what the client was told."""

    @property
    def is_ordinary(self) -> bool:
        """Whether the first account that was asked gave a good answer, so that there is little to tell."""
        kinds = [event.kind for _, event in self.events if isinstance(event, TraceEvent)]
        return kinds == ["served"]

    def last_of(self, account: str) -> TraceEvent | None:
        """What came of this account last."""
        found = (one for _, one in reversed(self.events) if isinstance(one, TraceEvent) and one.account == account)
        return next(found, None)

    def to_json(self) -> dict[str, Any]:
        """All of it; may be called from any thread once the request has ended."""
        return {
            "hops": [{"provider": hop.roster.provider, "model": hop.model} for hop in self.hops],
            "candidates": list(dict.fromkeys(one.name for hop in self.hops for one in hop.roster.members)),
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
            for account, (cooldown, _) in event.pick.view.blocked.items():
                why = cooldown.evidence or cooldown.cause
                told = {"account": account, "why": why, "cause": cooldown.cause, "until": cooldown.until}
                found.setdefault(account, told)
        tried = {event.pick.member.name for _, event in self.events if isinstance(event, AttemptStarted)}
        for one in self.refused:
            if one.account not in tried:
                found.setdefault(one.account, one.to_json())
        for account, (reason, _) in self.unavailable.items():
            found.setdefault(account, {"account": account, "why": reason, "cause": None, "until": None})
        return list(found.values())


def _step(at: float, event: AttemptStarted | TraceEvent) -> dict[str, Any]:
    told: dict[str, Any] = {"ms": round(at * 1000)}
    if isinstance(event, AttemptStarted):
        told |= {"what": "tried", "account": event.pick.member.name, "model": event.model, "why": event.pick.why}
        if event.wait:
            told["wait_ms"] = round(event.wait * 1000)
        if event.pick.block is not None:
            told["probe"] = True
        return told
    told["what"] = event.kind
    told |= {key: value for key in ("account", "fingerprint", "status", "plan") if (value := getattr(event, key))}
    if event.reason:
        told["why"] = event.reason
    if event.verdict is not None:
        told |= {"cause": event.verdict.cause, "scope": event.verdict.scope, "means": event.verdict.reason}
    if event.benched is not None:
        scope = event.benched.scope
        told["benched"] = {"kind": scope.kind, "name": scope.name, "family": scope.family, "until": event.benched.until}
    return told
