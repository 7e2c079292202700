"""Documents of accounts, written by hand."""

import json
import time
from pathlib import Path
from typing import Any, Final

from tokenferry.accounts import machine_id
from tokenferry.settings import Home

ACCESS: Final = "fake-access-" + "a" * 40
OAT: Final = "sk-ant-oat01-" + "b" * 90
KEY: Final = "sk-ant-api03-" + "c" * 40


def document(now: float, **changes: Any) -> dict[str, Any]:
    """A login of the sandbox, in the account `work`, that lives for two hours."""
    return {
        "version": 1,
        "generation": 3,
        "machine": machine_id(),
        "name": "work",
        "provider": "sandbox",
        "kind": "oauth",
        "owner": "tokenferry",
        "labels": {},
        "priority": 100,
        "created_at": 1_700_000_000,
        "credential": {"access_token": ACCESS, "refresh_token": "fake-refresh", "expires_at": int(now) + 7200},
    } | changes


def put(home: Home, data: dict[str, Any] | bytes, name: str = "work") -> Path:
    """Write it where a store looks for it."""
    home.accounts.mkdir(mode=0o700, exist_ok=True)
    path = home.accounts / f"{name}.json"
    path.write_bytes(data if isinstance(data, bytes) else json.dumps(data).encode())
    path.chmod(0o600)
    return path


def settle() -> None:
    """Wait until the clock of the file system has ticked: from then on each change of a file shows in its times."""
    time.sleep(0.021)
