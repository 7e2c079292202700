"""Records changes of keys and accounts: a line in the home's audit.log, and a log record."""

import contextlib
import json
import logging
import os
import time
from collections.abc import Mapping
from typing import Final

from msgspec import Struct

from tokenferry.errors import StorageFailed, TokenferryError, UnsafeFile
from tokenferry.logfmt import pairs
from tokenferry.settings import Home
from tokenferry.stores import check_status, make_private_folder

__all__ = ["AuditLine", "changes_of", "note_change"]

logger = logging.getLogger(__name__)

_READ: Final = 512 * 1024
"""The bytes at the end of the log that are read."""
_OF_ACCOUNTS: Final = frozenset(("account", "cooldown"))
_COMMON: Final = frozenset(("time", "action", "name", "client", "uid", "pid"))
_FLAGS: Final = os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC
_APPEND: Final = _FLAGS | os.O_WRONLY | os.O_APPEND | os.O_CREAT


def note_change(home: Home, action: str, name: str, **details: str | int | bool | None) -> None:
    """Record a change of the account or client key `name`. An action is `account.add` or `key.revoke`, for example.

    Details hold no secrets, only their fingerprints. It raises nothing, since the change is made already; if it can't
    be recorded, a warning is logged.
    """
    fields = {
        "action": action,
        "name": name,
        **details,
        "uid": os.getuid(),
        "pid": os.getpid(),
    }
    change = _Change({key: value for key, value in fields.items() if value is not None})
    logger.info(change)
    line = json.dumps({"time": int(time.time()), **change.values})
    try:
        _append(home, line)
    except TokenferryError as fault:
        logger.warning("the change was made, but could not be recorded: %s", fault)


class AuditLine(Struct, frozen=True):
    """A recorded change of an account."""

    at: int
    """The time in seconds since 1970 UTC."""
    action: str
    by: str
    """The client key or dashboard session; empty for a command."""
    details: Mapping[str, str]


def changes_of(home: Home, account: str, most: int = 20) -> list[AuditLine]:
    """Give the latest changes of an account in the end of the log, newest first. Raises `UnsafeFile`."""
    try:
        descriptor = os.open(home.audit, _FLAGS | os.O_RDONLY)
    except FileNotFoundError:
        return []
    except OSError as fault:
        raise UnsafeFile(f"{home.audit} can't be opened: {fault.strerror}") from None
    with os.fdopen(descriptor, "rb") as file:
        status = os.fstat(descriptor)
        check_status(home.audit, status)
        file.seek(max(status.st_size - _READ, 0))
        content = file.read(_READ)
    found: list[AuditLine] = []
    for line in reversed(content.splitlines()):
        if f'"name": {json.dumps(account)}'.encode("ascii") not in line:
            continue
        with contextlib.suppress(ValueError, KeyError, TypeError):
            values = json.loads(line)
            if values["name"] == account and str(values["action"]).partition(".")[0] in _OF_ACCOUNTS:
                details = {key: str(value) for key, value in values.items() if key not in _COMMON}
                found.append(AuditLine(int(values["time"]), values["action"], str(values.get("client", "")), details))
        if len(found) == most:
            break
    return found


class _Change:
    """A change as a log record: `str()` gives `key=value` pairs, `fields()` an object."""

    def __init__(self, values: Mapping[str, int | str | None]) -> None:
        self.values = values

    def fields(self) -> list[Mapping[str, int | str | None]]:
        return [self.values]

    def __str__(self) -> str:
        return pairs(self.values.items())


def _append(home: Home, line: str) -> None:
    path = home.audit
    make_private_folder(path.parent)
    try:
        descriptor = os.open(path, _APPEND, 0o600)
    except OSError as fault:
        raise UnsafeFile(f"{path} can't be opened: {fault.strerror}") from None
    try:
        check_status(path, os.fstat(descriptor))
        # One write, so that lines of several processes don't mix.
        os.write(descriptor, line.encode("ascii") + b"\n")
        os.fsync(descriptor)
    except OSError as fault:
        raise StorageFailed(f"{path} could not be written: {fault.strerror}") from None
    finally:
        os.close(descriptor)
