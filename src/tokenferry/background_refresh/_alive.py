"""Who keeps a home's logins alive: there is a lock for it, and a mark of those who keep by a timetable."""

import time
from typing import Final

from tokenferry.settings import Home
from tokenferry.stores import FileLock, replace_private_file

_RECENT: Final = 660.0


def renewer_lock(home: Home) -> FileLock:
    """The lock that one renewer of the home holds as long as it lives."""
    return FileLock(home.renewer, home.locks)


def mark_round(home: Home) -> None:
    """Record that everything due was done. Raises `StorageFailed`."""
    replace_private_file(home.renewer, b"\n")


def renewer_of(home: Home, now: float | None = None) -> str | None:
    """The renewer: a living process, or `refresh --due` if that ran in the last 11 minutes; None if there is none."""
    lock = renewer_lock(home)
    if lock.is_held():
        return lock.holder()
    now = time.time() if now is None else now
    try:
        age = now - home.renewer.stat().st_mtime
    except OSError:
        return None
    return "tokenferry refresh --due" if -_RECENT < age < _RECENT else None
