from tokenferry.stores.claude_code._document import (
    LOGIN_COMMAND,
    Login,
    LoginState,
    digest,
    merge,
    parse,
    put_in,
    taken_out,
)
from tokenferry.stores.claude_code._file import CredentialsFile
from tokenferry.stores.claude_code._home import ClaudeCodeHome
from tokenferry.stores.claude_code._keychain import Keychain
from tokenferry.stores.claude_code._lock import ClaudeCodeLock, LockTiming, WriteLock
from tokenferry.stores.claude_code._store import AccountLock, ClaudeCodeStore, LoginStatus, Place

__all__ = [
    "LOGIN_COMMAND",
    "AccountLock",
    "ClaudeCodeHome",
    "ClaudeCodeLock",
    "ClaudeCodeStore",
    "CredentialsFile",
    "Keychain",
    "LockTiming",
    "Login",
    "LoginState",
    "LoginStatus",
    "Place",
    "WriteLock",
    "digest",
    "merge",
    "parse",
    "put_in",
    "taken_out",
]
