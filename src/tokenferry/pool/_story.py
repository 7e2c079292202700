from collections.abc import Sequence
from typing import TYPE_CHECKING, Any, NamedTuple

from tokenferry.limits import Verdict
from tokenferry.pool._member import Hop, Want
from tokenferry.pool._pick import Pick
from tokenferry.state import Cooldown

if TYPE_CHECKING:
    from tokenferry.pool._pool import Pool


class Event(NamedTuple):
    """Something that befell a request."""

    kind: str
    account: str = ""
    fingerprint: str = ""
    status: int | None = None
    verdict: Verdict | None = None
    benched: Cooldown | None = None
    plan: str = ""
    reason: str = ""
    wait: float = 0.0
    model: str = ""
    pick: Pick | None = None


class Story:
    """What befell a request, for `tokenferry why`. Nothing in it is secret."""

    __slots__ = ("_hops", "_pool", "_want", "began", "events", "unavailable")

    def __init__(self, pool: "Pool", hops: Sequence[Hop], want: Want) -> None:
        self._pool = pool
        self._hops = hops
        self._want = want
        self.began = pool.monotonic()
        self.events: list[tuple[float, Event]] = []
        self.unavailable: dict[str, tuple[str, float | None]] = {}
        """Accounts that had no credential: why, and in how many seconds they may have one."""

    def note(self, event: Event) -> None:
        self.events.append((self._pool.monotonic() - self.began, event))

    def last_of(self, account: str) -> Event | None:
        """What befell it with this account last, but for its being tried."""
        return next((one for _, one in reversed(self.events) if one.account == account and one.kind != "tried"), None)

    def to_json(self) -> dict[str, Any]:
        """All of it; may be called from any thread once the request has ended."""
        return {
            "hops": [{"provider": hop.roster.provider, "model": hop.model} for hop in self._hops],
            "candidates": list(dict.fromkeys(one.name for hop in self._hops for one in hop.roster.members)),
            "passed_over": self._passed_over(),
            "steps": [_step(at, event) for at, event in self.events],
        }

    def _passed_over(self) -> list[dict[str, Any]]:
        found: dict[str, dict[str, Any]] = {}
        for _, event in self.events:
            view = None if event.pick is None else event.pick.view
            for account, block in () if view is None else view.blocked.items():
                found.setdefault(
                    account,
                    {
                        "account": account,
                        "why": f"{block.cooldown.cause}: {block.cooldown.evidence}".rstrip(": "),
                        "until": block.cooldown.until,
                    },
                )
        for account, (reason, _) in self.unavailable.items():
            found.setdefault(account, {"account": account, "why": reason, "until": None})
        return list(found.values())


def _step(at: float, event: Event) -> dict[str, Any]:
    told: dict[str, Any] = {"ms": round(at * 1000), "what": event.kind}
    told |= {
        key: value for key in ("account", "model", "fingerprint", "status", "plan") if (value := getattr(event, key))
    }
    if event.reason:
        told["why"] = event.reason
    if event.wait:
        told["wait_ms"] = round(event.wait * 1000)
    if event.pick is not None and event.pick.block is not None:
        told["probe"] = True
    if event.verdict is not None:
        told |= {"cause": event.verdict.cause, "scope": event.verdict.scope, "means": event.verdict.reason}
    if event.benched is not None:
        scope = event.benched.scope
        told["benched"] = {"kind": scope.kind, "name": scope.name, "family": scope.family, "until": event.benched.until}
    return told
