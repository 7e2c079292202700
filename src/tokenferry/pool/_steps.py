"""The steps that failover yields, and the outcomes that its driver sends."""

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any, Final, Literal, TypeAlias

import msgspec

from tokenferry.pool._account import PoolAccount, Target

if TYPE_CHECKING:
    from tokenferry.pool._lease import Lease, Ticket

_CHALLENGE: Final = "www-authenticate"

Headers: TypeAlias = Sequence[tuple[bytes, bytes]]
"""Header fields as received."""

# Steps.


class SendAttempt(msgspec.Struct, frozen=True):
    """Send the request with this account after `wait` seconds."""

    target: Target
    account: PoolAccount
    wait: float = 0.0
    renew: bool = False
    """Whether to replace a refused token first. The outcome is `NotRenewed` if there is no other."""
    is_probe: bool = False
    """Whether the attempt is a recovery probe."""


class WaitForCapacity(msgspec.Struct, frozen=True):
    """Wait for capacity. The outcome is `CapacityGranted` when the ticket wakes, `WaitOver` after `seconds`."""

    ticket: "Ticket"
    seconds: float


Step: TypeAlias = SendAttempt | WaitForCapacity

# Outcomes.


class Served(msgspec.Struct, frozen=True):
    """A good answer has begun. `answer` is the driver's object, which `Forward` hands back."""

    status: int
    headers: Headers
    fingerprint: str = ""
    """The fingerprint of the credential."""
    answer: Any = None


class ErrorResponse(msgspec.Struct, frozen=True):
    """An error, or a stream that begins with one. The client has received nothing.

    `body` is the whole body, or the part of a stream before its content.
    """

    status: int
    headers: Headers
    body: bytes
    fingerprint: str = ""
    answer: Any = None
    is_whole: bool = True
    """Whether `body` is complete."""


class ConnectFailed(msgspec.Struct, frozen=True):
    """The connection failed before the whole request was sent, so it was not served."""

    reason: str
    fingerprint: str = ""


class UpstreamLost(msgspec.Struct, frozen=True):
    """The request was sent, but its answer timed out or was cut. It may have been billed."""

    reason: str
    fingerprint: str = ""
    answer: Any = None


class CredentialUnavailable(msgspec.Struct, frozen=True):
    """The account has no credential now. `retry_after` is in seconds."""

    reason: str
    retry_after: float | None = None
    fault: Any = None


class NotRenewed(msgspec.Struct, frozen=True):
    """The refused token could not be replaced. `is_dead`: the provider declared the login dead."""

    reason: str
    is_dead: bool = False


class TargetUnfit(msgspec.Struct, frozen=True):
    """The request can't be translated to the target's format; nothing was sent."""

    reason: str


class CapacityGranted(msgspec.Struct, frozen=True):
    """The ticket has a slot."""


class WaitOver(msgspec.Struct, frozen=True):
    """The wait has timed out."""


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
"""The move after an outcome.

* forward: forward the answer to the client
* again, renew: retry the same account, unchanged or with a new token
* account: try another account of the target
* sibling: try only one other account of the target
* target: try the next target
"""

# Ends.


class Forward(msgspec.Struct, frozen=True):
    """Forward this answer unchanged. The driver ends the lease when the answer ends."""

    outcome: Served | ErrorResponse | UpstreamLost
    lease: "Lease"


class Reject(msgspec.Struct, frozen=True):
    """Answer with an error of this kind. `cause` is a code for programs."""

    status: int
    kind: str
    message: str
    cause: str
    retry_after: int | None = None
    """Seconds."""
    should_retry: bool = False
    faults: tuple[Any, ...] = ()
    """The errors of the accounts, if none had a credential."""


def text_headers(headers: Headers) -> dict[str, str]:
    """Give headers as text, by name. Several challenges are joined (RFC 9110 11.6.1)."""
    fields = {name.decode("latin-1"): value.decode("latin-1") for name, value in headers}
    if _CHALLENGE in fields:
        challenges = (value.decode("latin-1") for name, value in headers if name == _CHALLENGE.encode())
        fields[_CHALLENGE] = ", ".join(challenges)
    return fields
