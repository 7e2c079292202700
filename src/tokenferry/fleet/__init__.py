"""Accounts that several hosts share: store, journal and locks in the tables of a database, and a local spill.

Nothing here knows SQL. Safety doesn't depend on a lock: only the process that recorded the attempt presents a refresh
token.
"""

from tokenferry.fleet._heartbeat import Heartbeat
from tokenferry.fleet._journal import FleetJournal
from tokenferry.fleet._mirror import AccountMirror
from tokenferry.fleet._row_lock import RowLock
from tokenferry.fleet._spill import Spill
from tokenferry.fleet._store import FleetStore
from tokenferry.fleet._tables import (
    CLEAR,
    HOLD_OFF,
    HOST_SECONDS,
    LOCK_SECONDS,
    MOST_APART,
    AccountRecord,
    AttemptRecord,
    Epoch,
    HostKeys,
    Order,
    SharedKey,
    Tables,
    shared_key,
)

__all__ = [
    "CLEAR",
    "HOLD_OFF",
    "HOST_SECONDS",
    "LOCK_SECONDS",
    "MOST_APART",
    "AccountMirror",
    "AccountRecord",
    "AttemptRecord",
    "Epoch",
    "FleetJournal",
    "FleetStore",
    "Heartbeat",
    "HostKeys",
    "Order",
    "RowLock",
    "SharedKey",
    "Spill",
    "Tables",
    "shared_key",
]
