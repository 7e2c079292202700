"""Everything but credentials that processes share, in one database: SQLite's for one machine, else PostgreSQL."""

from tokenferry.state._alert_claims import AlertClaims
from tokenferry.state._client_key import (
    KEY_CAPS,
    ClientKey,
    Role,
    check_expiry,
    check_key_name,
    check_labels,
    key_caps,
)
from tokenferry.state._cooldowns import CLOCK_ERROR, Cooldown, Cooldowns, Scope, ScopeKind, later
from tokenferry.state._copy import StateCopy, copy_state
from tokenferry.state._database import BulkInsert, Cursor, Database, Row, Transaction, Value, Values
from tokenferry.state._decisions import MOST_DECISIONS, Decision, Decisions
from tokenferry.state._gateways import (
    GatewayRecord,
    GatewayRegistration,
    gateway_records,
    reachable_url,
    running_gateway,
)
from tokenferry.state._home_values import gateway_id, login_secret
from tokenferry.state._keys import INFERENCE_PREFIX, KEY_LENGTH, ClientKeys
from tokenferry.state._known_limits import KnownLimits
from tokenferry.state._local_key import LOCAL_KEY_NAME, is_local_key, local_key, local_key_name, read_local_key
from tokenferry.state._logins import StartedLogin, StartedLogins
from tokenferry.state._organizations import Organizations
from tokenferry.state._rights import EVERYTHING, Rights
from tokenferry.state._sessions import (
    SESSION_LIFETIME,
    DashboardSession,
    DashboardSessions,
    SignInWay,
    csrf_token,
)
from tokenferry.state._sqlite import Schema, SqliteDatabase
from tokenferry.state._state import State
from tokenferry.state._usage_probe import UsageProbe

__all__ = [
    "CLOCK_ERROR",
    "EVERYTHING",
    "INFERENCE_PREFIX",
    "KEY_CAPS",
    "KEY_LENGTH",
    "LOCAL_KEY_NAME",
    "MOST_DECISIONS",
    "SESSION_LIFETIME",
    "AlertClaims",
    "BulkInsert",
    "ClientKey",
    "ClientKeys",
    "Cooldown",
    "Cooldowns",
    "Cursor",
    "DashboardSession",
    "DashboardSessions",
    "Database",
    "Decision",
    "Decisions",
    "GatewayRecord",
    "GatewayRegistration",
    "KnownLimits",
    "Organizations",
    "Rights",
    "Role",
    "Row",
    "Schema",
    "Scope",
    "ScopeKind",
    "SignInWay",
    "SqliteDatabase",
    "StartedLogin",
    "StartedLogins",
    "State",
    "StateCopy",
    "Transaction",
    "UsageProbe",
    "Value",
    "Values",
    "check_expiry",
    "check_key_name",
    "check_labels",
    "copy_state",
    "csrf_token",
    "gateway_id",
    "gateway_records",
    "is_local_key",
    "key_caps",
    "later",
    "local_key",
    "local_key_name",
    "login_secret",
    "reachable_url",
    "read_local_key",
    "running_gateway",
]
