"""Who changed which key or account, and when: a line of audit.log in the home, and a record of the logger."""

import json
import logging
import os
import time
from collections.abc import Mapping
from typing import Final

from tokenferry.errors import StorageFailed, TokenferryError, UnsafeFile
from tokenferry.logfmt import pairs
from tokenferry.settings import Home
from tokenferry.stores import check_status, make_private_folder

__all__ = ["note_change"]

logger = logging.getLogger(__name__)

_APPEND: Final = os.O_WRONLY | os.O_APPEND | os.O_CREAT | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC


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
