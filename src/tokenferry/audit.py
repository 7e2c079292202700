"""Who changed which key or account, and when: a line of audit.log in the home, and a record of the logger."""

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
"""So many bytes of the log's end are looked at."""
_OF_ACCOUNTS: Final = frozenset(("account", "cooldown"))
_COMMON: Final = frozenset(("time", "action", "name", "client", "uid", "pid"))
_FLAGS: Final = os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC
_APPEND: Final = _FLAGS | os.O_WRONLY | os.O_APPEND | os.O_CREAT


def note_change(home: Home, action: str, name: str, **details: str | int | bool | None) -> None:
    """Tell of a change that was made, to the account or client key `name`: `account.add`, `key.revoke`.

    Details hold no secret, only fingerprints of them. Nothing is raised: what was done is done, and a warning tells
    that it could not be written down.
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
        logger.warning("the change was made, but could not be written down: %s", fault)


class AuditLine(Struct, frozen=True):
    """A change that was made to an account, by a client key, a session of the dashboard or a command."""

    at: int
    """In seconds since 1970 UTC."""
    action: str
    by: str
    """Empty for a command."""
    details: Mapping[str, str]


def changes_of(home: Home, account: str, most: int = 20) -> list[AuditLine]:
    """The latest changes that were made to an account, as far as the end of the log has them, newest first.

    Raises `UnsafeFile`.
    """
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
    """A change as a log shows it: `str()` gives `key=value` pairs, `fields()` the same as an object."""

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
        # One write: lines of several processes don't mix.
        os.write(descriptor, line.encode("ascii") + b"\n")
        os.fsync(descriptor)
    except OSError as fault:
        raise StorageFailed(f"{path} could not be written: {fault.strerror}") from None
    finally:
        os.close(descriptor)
