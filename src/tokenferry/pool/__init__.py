"""The account pool: selects accounts, fails over, and keeps cooldowns and capacity. The package does no I/O."""

from tokenferry.pool._account import (
    AccountGroup,
    Criteria,
    PoolAccount,
    Target,
    account_group,
    affinity_key,
    may_use,
)
from tokenferry.pool._cooldowns import Change, CooldownAdded, CooldownCache, CooldownCleared, OrganizationSeen
from tokenferry.pool._failover import Failover, failover
from tokenferry.pool._lease import Lease, Ticket
from tokenferry.pool._pool import Pool
from tokenferry.pool._probes import OF_CREDENTIALS, PAUSED
from tokenferry.pool._selection import Choice, PassedOver, Selection, how_to_resume
from tokenferry.pool._steps import (
    CapacityGranted,
    ConnectFailed,
    CredentialUnavailable,
    ErrorResponse,
    Forward,
    Headers,
    NotRenewed,
    Outcome,
    Reject,
    SendAttempt,
    Served,
    Step,
    TargetUnfit,
    UpstreamLost,
    WaitForCapacity,
    WaitOver,
)
from tokenferry.pool._trace import Trace

__all__ = [
    "OF_CREDENTIALS",
    "PAUSED",
    "AccountGroup",
    "CapacityGranted",
    "Change",
    "Choice",
    "ConnectFailed",
    "CooldownAdded",
    "CooldownCache",
    "CooldownCleared",
    "CredentialUnavailable",
    "Criteria",
    "ErrorResponse",
    "Failover",
    "Forward",
    "Headers",
    "Lease",
    "NotRenewed",
    "OrganizationSeen",
    "Outcome",
    "PassedOver",
    "Pool",
    "PoolAccount",
    "Reject",
    "Selection",
    "SendAttempt",
    "Served",
    "Step",
    "Target",
    "TargetUnfit",
    "Ticket",
    "Trace",
    "UpstreamLost",
    "WaitForCapacity",
    "WaitOver",
    "account_group",
    "affinity_key",
    "failover",
    "how_to_resume",
    "may_use",
]
