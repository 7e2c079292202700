"""The `Broker`: resolves an account to its credential, refreshed when due, for threads and event loops."""

from tokenferry.broker._backend import Backend, FileBackend, GivenBackend, open_backend, open_sealing
from tokenferry.broker._broker import Broker
from tokenferry.broker._claude_code import (
    complete_move,
    interrupted_move,
    swap_to_next_available_account,
    use_for_claude_code,
)
from tokenferry.broker._default import aresolve, default_broker, invalidate, resolve, settle_default_provider
from tokenferry.broker._forced import ForcedRenewals
from tokenferry.broker._next_account import select_next_account_for_swap
from tokenferry.broker._pending_login import PendingLogin
from tokenferry.broker._publisher import Published, Publisher
from tokenferry.broker._revocation import Revocation
from tokenferry.broker._rules import is_foreign
from tokenferry.broker._store_login import StoredLogin, check_login_name, store_login
from tokenferry.broker._verification import Verification

__all__ = [
    "Backend",
    "Broker",
    "FileBackend",
    "ForcedRenewals",
    "GivenBackend",
    "PendingLogin",
    "Published",
    "Publisher",
    "Revocation",
    "StoredLogin",
    "Verification",
    "aresolve",
    "check_login_name",
    "complete_move",
    "default_broker",
    "interrupted_move",
    "invalidate",
    "is_foreign",
    "open_backend",
    "open_sealing",
    "resolve",
    "select_next_account_for_swap",
    "settle_default_provider",
    "store_login",
    "swap_to_next_available_account",
    "use_for_claude_code",
]
