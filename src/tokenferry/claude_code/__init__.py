"""Claude Code, in one room: its credential store and locks, moves of a login, its settings, and whose credential wins.

Vendor-neutral code uses it as a `Store` (`ClaudeCodeStore`), as the document that `interchange` reads and writes,
and as the `moves` that the broker carries out.
"""

from tokenferry.claude_code._document import (
    LOGIN_COMMAND,
    ClaudeCodeLogin,
    LoginState,
    digest,
    merge,
    parse,
    put_in,
    taken_out,
)
from tokenferry.claude_code._file import CredentialsFile
from tokenferry.claude_code._home import ClaudeCodeHome
from tokenferry.claude_code._keychain import Keychain
from tokenferry.claude_code._lock import ClaudeCodeLock, LockTiming, WriteLock
from tokenferry.claude_code._store import (
    FOLDER_LABEL,
    STORE,
    AccountLock,
    ClaudeCodeStore,
    LoginStatus,
    Place,
    claude_code_account,
)

__all__ = [
    "FOLDER_LABEL",
    "LOGIN_COMMAND",
    "STORE",
    "AccountLock",
    "ClaudeCodeHome",
    "ClaudeCodeLock",
    "ClaudeCodeLogin",
    "ClaudeCodeStore",
    "CredentialsFile",
    "Keychain",
    "LockTiming",
    "LoginState",
    "LoginStatus",
    "Place",
    "WriteLock",
    "claude_code_account",
    "digest",
    "merge",
    "parse",
    "put_in",
    "taken_out",
]
