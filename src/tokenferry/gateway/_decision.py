from dataclasses import dataclass, field

from tokenferry.gateway._routing import Choice


@dataclass(slots=True)
class Attempt:
    """A request as it was sent upstream, and what came of it; no status where no answer came."""

    account: str
    fingerprint: str
    status: int | None = None


@dataclass(slots=True)
class Decision:
    """How a request came to the account that served it, or why none did. Nothing in it is secret."""

    choice: Choice | None = None
    passed_over: list[tuple[str, str]] = field(default_factory=list)
    """Accounts, and why."""
    attempts: list[Attempt] = field(default_factory=list)
    message: str | None = None
    """What the client was told in place of an answer."""
