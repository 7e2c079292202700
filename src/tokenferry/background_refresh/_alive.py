"""Finds out who renews a home's logins: a process that holds a lock, or a timer that leaves a mark."""

import time
from typing import Final

from tokenferry.settings import Home
from tokenferry.stores import FileLock, replace_private_file

_RECENT: Final = 660.0


def renewer_lock(home: Home) -> FileLock:
    """Give the lock that the home's one renewer holds while it lives."""
    return FileLock(home.renewer, home.locks)


def mark_round(home: Home) -> None:
    """Record that everything due was done. Raises `StorageFailed`."""
    replace_private_file(home.renewer, b"\n")


def renewer_of(home: Home, now: float | None = None) -> str | None:
    """Give the renewer: a living process, or `refresh --due` if it ran in the last 11 minutes; None without one."""
    lock = renewer_lock(home)
    if lock.is_held():
        return lock.holder()
    now = time.time() if now is None else now
    try:
        age = now - home.renewer.stat().st_mtime
    except OSError:
        return None
    return "tokenferry refresh --due" if -_RECENT < age < _RECENT else None
