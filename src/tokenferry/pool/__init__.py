"""Which account serves a request, and where it goes when that one can't. Nothing here reads, writes, waits or sends."""

from tokenferry.pool._account import AccountGroup, Criteria, PoolAccount, Target, affinity_key
from tokenferry.pool._choice import Choice, PassedOver
from tokenferry.pool._cooldowns import Change, CooldownAdded, CooldownCache, CooldownCleared, OrganizationSeen
from tokenferry.pool._journey import Journey
from tokenferry.pool._pick import Headers, Selection
from tokenferry.pool._pool import Pool
from tokenferry.pool._probes import OF_CREDENTIALS
from tokenferry.pool._rosters import account_group
from tokenferry.pool._steps import Forward, Reject, SendAttempt, Step, WaitForCapacity
from tokenferry.pool._trace import Trace

__all__ = [
    "OF_CREDENTIALS",
    "AccountGroup",
    "Change",
    "Choice",
    "CooldownAdded",
    "CooldownCache",
    "CooldownCleared",
    "Criteria",
    "Forward",
    "Headers",
    "Journey",
    "OrganizationSeen",
    "PassedOver",
    "Pool",
    "PoolAccount",
    "Reject",
    "Selection",
    "SendAttempt",
    "Step",
    "Target",
    "Trace",
    "WaitForCapacity",
    "account_group",
    "affinity_key",
]
