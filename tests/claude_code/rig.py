"""Documents as Claude Code writes them, and processes that hold its locks."""

import contextlib
import json
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any, Final

from tokenferry.credentials import OAuthToken
from tokenferry.secret import Secret
from tokenferry.stores import Account, Document

ACCESS: Final = "sk-ant-oat01-" + "A" * 80
REFRESH: Final = "sk-ant-ort01-" + "R" * 80
EXPIRES: Final = 1_900_000_000
ACCOUNT: Final = Account("mine", "claude-max", "oauth", owner="claude-code", store="claude-code")
PATIENCE: Final = 30.0


def section(**changes: Any) -> dict[str, Any]:
    fields = {
        "accessToken": ACCESS,
        "refreshToken": REFRESH,
        "expiresAt": EXPIRES * 1000,
        "scopes": ["user:inference", "user:profile"],
        "subscriptionType": "max",
        "rateLimitTier": "default_claude_max_5x",
        "accountUuid": "11111111-1111-4111-8111-111111111111",
        "organizationUuid": "22222222-2222-4222-8222-222222222222",
    }
    return fields | changes


STUB: Final = section(accessToken="", refreshToken="", expiresAt=0)


def document(login: Any = None, **others: Any) -> bytes:
    return json.dumps({**others, "claudeAiOauth": section() if login is None else login}).encode()


def write(path: Path, content: bytes) -> None:
    path.write_bytes(content)
    path.chmod(0o600)


def renewed(number: int = 1, **changes: Any) -> OAuthToken:
    """What a grant gives."""
    given: dict[str, Any] = {
        "secret": Secret(f"sk-ant-oat01-new{number}" + "B" * 80),
        "refresh": Secret(f"sk-ant-ort01-new{number}" + "S" * 80),
        "expires_at": EXPIRES + number,
        "scopes": ("user:inference", "user:profile"),
        "subscription_type": "max",
        "rate_limit_tier": "default_claude_max_5x",
        "account_id": "11111111-1111-4111-8111-111111111111",
        "organization_id": "22222222-2222-4222-8222-222222222222",
        "lifetime": 28800,
        "obtained_at": EXPIRES - 28800,
        "source": "refresh",
        "email": "me@example.com",
    }
    return OAuthToken(**(given | changes))


def holding(token: OAuthToken) -> Document:
    return Document(ACCOUNT, token, generation=99, machine="some machine")


def eventually(holds: Callable[[], object]) -> None:
    """Wait until something holds that another thread or process brings about."""
    deadline = time.monotonic() + PATIENCE
    while not holds():
        assert time.monotonic() < deadline, "it never came about"
        time.sleep(0.005)


PRELUDE: Final = """
import os, sys
from pathlib import Path
from tokenferry.errors import LockTimeout
from tokenferry.claude_code import ClaudeCodeHome, ClaudeCodeLock, LockTiming
home, seen = ClaudeCodeHome(Path(sys.argv[1])), Path(sys.argv[2])
lock = ClaudeCodeLock(home, seen, timing=LockTiming(heartbeat=0.02, stale=float(sys.argv[3]), pause=0.01))
"""

HOLDER: Final = """
lock.acquire(20)
print("held", flush=True)
sys.stdin.read()
print("ours" if lock.is_still_ours() else "lost", flush=True)
lock.release()
"""


@contextlib.contextmanager
def running(script: str, *arguments: object) -> Iterator["subprocess.Popen[str]"]:
    """A process with `lock`, killed after the block."""
    command = [sys.executable, "-c", PRELUDE + script, *map(str, arguments)]
    with subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True) as process:
        try:
            yield process
        finally:
            process.kill()


def line(process: "subprocess.Popen[str]") -> str:
    assert process.stdout is not None
    return process.stdout.readline().strip()
