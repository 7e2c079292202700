from tokenferry.refresh._client_secret import read_client_secret
from tokenferry.refresh._discovery import Discovery, Needed
from tokenferry.refresh._driver import Sender
from tokenferry.refresh._engine import Flight, RefreshEngine, RefreshHistory, RefreshStatistics
from tokenferry.refresh._flow import refresh_flow
from tokenferry.refresh._identity import read_identity
from tokenferry.refresh._job import (
    FlowContext,
    RefreshRequest,
    Result,
    granted_ago,
    is_of_unknown_age,
    log_in_again,
    seconds_left,
    window,
)
from tokenferry.refresh._journal import (
    AttemptState,
    FileJournal,
    Journal,
    MemoryJournal,
    RefreshAttempt,
    RefreshFailure,
)
from tokenferry.refresh._send import send
from tokenferry.refresh._warm import ADVISORY_PAUSE, WarmCredential, WarmCredentials, asked_again, fresh_until

__all__ = [
    "ADVISORY_PAUSE",
    "AttemptState",
    "Discovery",
    "FileJournal",
    "Flight",
    "FlowContext",
    "Journal",
    "MemoryJournal",
    "Needed",
    "RefreshAttempt",
    "RefreshEngine",
    "RefreshFailure",
    "RefreshHistory",
    "RefreshRequest",
    "RefreshStatistics",
    "Result",
    "Sender",
    "WarmCredential",
    "WarmCredentials",
    "asked_again",
    "fresh_until",
    "granted_ago",
    "is_of_unknown_age",
    "log_in_again",
    "read_client_secret",
    "read_identity",
    "refresh_flow",
    "seconds_left",
    "send",
    "window",
]
