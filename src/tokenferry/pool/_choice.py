from dataclasses import dataclass
from typing import Any, Final

from tokenferry.pool._account import PoolAccount

_OF_LIMITS: Final = frozenset(
    {
        "billing",
        "no-credit",
        "no-extra-usage",
        "overage",
        "rate-limit",
        "rate-limited",
        "rejected",
        "spend-limit",
        "usage-limit",
        "window",
    }
)


@dataclass(frozen=True, slots=True)
class PassedOver:
    """An account that was not chosen, and why. `until` is in seconds since 1970 UTC, if that is known."""

    account: str
    reason: str
    until: int | None = None
    cause: str = ""
    """Of the cooldown it is benched by."""
    is_allowed: bool = True
    """Whether the request may use it at all."""

    @property
    def is_limit(self) -> bool:
        """Whether a limit stands against it, which waiting or paying ends."""
        return self.cause in _OF_LIMITS

    def to_json(self) -> dict[str, Any]:
        return {"account": self.account, "why": self.reason, "cause": self.cause or None, "until": self.until}


@dataclass(frozen=True, slots=True)
class Choice:
    """Which account of a roster would serve, and why none of the others."""

    member: PoolAccount | None
    reason: str
    """Why it is this one; empty for none."""
    passed_over: tuple[PassedOver, ...]
    """Every other account of the roster, in its order."""

    @property
    def considered(self) -> tuple[PassedOver, ...]:
        """All that the request may use, whatever stands against them."""
        chosen = () if self.member is None else (PassedOver(self.member.name, "is ready"),)
        return (*chosen, *(one for one in self.passed_over if one.is_allowed))
