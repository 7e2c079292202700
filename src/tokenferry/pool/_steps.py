"""What a journey asks of whoever drives it."""

from typing import NamedTuple, TypeAlias

from tokenferry.pool._account import PoolAccount, Target


class SendAttempt(NamedTuple):
    """Send the request to this account, after `wait` seconds, and report what comes of it."""

    hop: Target
    member: PoolAccount
    wait: float = 0.0
    renew: bool = False
    """Its token was refused: invalidate that one and resolve again first. No other token: report `not_renewed`."""
    is_probe: bool = False
    """It is benched, and this finds out whether it still must be."""

    @property
    def model(self) -> str:
        return self.hop.model


class WaitForCapacity(NamedTuple):
    """Every account is at its cap: call `next` again when `wake` is called, or after so many seconds, a few at most."""

    seconds: float


class Forward(NamedTuple):
    """Give the client what was reported last: that answer unchanged, or that fault."""


class Reject(NamedTuple):
    """Answer in the pool's own name: an error envelope of this kind. `cause` is a word for programs."""

    status: int
    kind: str
    message: str
    cause: str
    retry_after: int | None = None
    """Seconds."""
    should_retry: bool = False


Step: TypeAlias = SendAttempt | WaitForCapacity | Forward | Reject
