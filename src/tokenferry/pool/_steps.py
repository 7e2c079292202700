"""What failover asks of its driver, and what the driver answers."""

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any, Final, Literal, TypeAlias

import msgspec

from tokenferry.pool._account import PoolAccount, Target

if TYPE_CHECKING:
    from tokenferry.pool._lease import Lease, Ticket

_CHALLENGE: Final = "www-authenticate"

Headers: TypeAlias = Sequence[tuple[bytes, bytes]]
"""Header fields as they came over the wire."""

# What is asked for.


class SendAttempt(msgspec.Struct, frozen=True):
    """Send the request as this account's, after `wait` seconds. Answer with what came of it."""

    target: Target
    account: PoolAccount
    wait: float = 0.0
    renew: bool = False
    """Its token was refused: invalidate that one and resolve again first. Without another token: `NotRenewed`."""
    is_probe: bool = False
    """It is in a cooldown, and this finds out whether it still must be."""


class WaitForCapacity(msgspec.Struct, frozen=True):
    """Every account is at its limit: answer `CapacityGranted` when the ticket wakes, else `WaitOver`."""

    ticket: "Ticket"
    seconds: float


Step: TypeAlias = SendAttempt | WaitForCapacity

# What comes of it.


class Served(msgspec.Struct, frozen=True):
    """A good answer began. `answer` is the driver's own, here and below: `Forward` hands it back."""

    status: int
    headers: Headers
    fingerprint: str = ""
    """Of the credential that was presented."""
    answer: Any = None


class ErrorResponse(msgspec.Struct, frozen=True):
    """An error came, or a stream whose first event is one; nothing of it has gone to the client.

    `body` is all of it, or of a stream what came before content.
    """

    status: int
    headers: Headers
    body: bytes
    fingerprint: str = ""
    answer: Any = None
    is_whole: bool = True
    """Whether nothing more of it comes."""


class ConnectFailed(msgspec.Struct, frozen=True):
    """No connection came about, or not all of the request was sent: it can't have been served."""

    reason: str
    fingerprint: str = ""


class UpstreamLost(msgspec.Struct, frozen=True):
    """The request was sent, and its answer timed out or was cut off: it may have been paid for."""

    reason: str
    fingerprint: str = ""
    answer: Any = None


class CredentialUnavailable(msgspec.Struct, frozen=True):
    """The account has no credential to present now. `retry_after` is in seconds."""

    reason: str
    retry_after: float | None = None
    fault: Any = None


class NotRenewed(msgspec.Struct, frozen=True):
    """There is no other token than the refused one. `is_dead`: the provider says that there will be none."""

    reason: str
    is_dead: bool = False


class TargetUnfit(msgspec.Struct, frozen=True):
    """The format of the target's provider can't say what the request asks for: nothing was sent."""

    reason: str


class CapacityGranted(msgspec.Struct, frozen=True):
    """The ticket has a slot."""


class WaitOver(msgspec.Struct, frozen=True):
    """The seconds are over."""


Outcome: TypeAlias = (
    Served
    | ErrorResponse
    | ConnectFailed
    | UpstreamLost
    | CredentialUnavailable
    | NotRenewed
    | TargetUnfit
    | CapacityGranted
    | WaitOver
)

Move: TypeAlias = Literal["forward", "again", "renew", "account", "sibling", "target"]
"""What comes after an outcome.

* forward: the client gets the answer
* again, renew: the same account, as it is or with another token
* account: another account of the target
* sibling: one other account of the target, and no further one
* target: the next target
"""

# How it ends.


class Forward(msgspec.Struct, frozen=True):
    """The client gets this answer, unchanged. The driver ends the lease, in whichever way the answer ends."""

    outcome: Served | ErrorResponse | UpstreamLost
    lease: "Lease"


class Reject(msgspec.Struct, frozen=True):
    """The client gets an error envelope of this kind. `cause` is a word for programs."""

    status: int
    kind: str
    message: str
    cause: str
    retry_after: int | None = None
    """Seconds."""
    should_retry: bool = False
    faults: tuple[Any, ...] = ()
    """Why none of the accounts had a credential, where that is all there is to say."""


def text_headers(headers: Headers) -> dict[str, str]:
    """As text, by name. An answer may challenge more than once (RFC 9110 11.6.1)."""
    fields = {name.decode("latin-1"): value.decode("latin-1") for name, value in headers}
    if _CHALLENGE in fields:
        challenges = (value.decode("latin-1") for name, value in headers if name == _CHALLENGE.encode())
        fields[_CHALLENGE] = ", ".join(challenges)
    return fields
