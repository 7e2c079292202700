"""What the process of a gateway allows others, and itself."""

import contextlib
import ctypes
import gc
import os
import resource
import sys
from typing import Final

_DESCRIPTORS: Final = 65_536
_RESERVED: Final = 64
_FEWEST: Final = 16
_PR_SET_DUMPABLE: Final = 4
_M_ARENA_MAX: Final = -8
_GC_THRESHOLDS: Final = (10_000, 20, 50)
_SWITCH_SECONDS: Final = 0.001


def hide_memory() -> None:
    """Leave no core dump, which would hold tokens, and on Linux let no other process of this user look into this one.

    A limit of 0 alone doesn't keep the memory from a program that the system pipes dumps to (core(5)).
    """
    resource.setrlimit(resource.RLIMIT_CORE, (0, resource.getrlimit(resource.RLIMIT_CORE)[1]))
    if sys.platform == "linux":
        with contextlib.suppress(OSError, AttributeError):
            ctypes.CDLL(None).prctl(_PR_SET_DUMPABLE, 0, 0, 0, 0)


def share_heap() -> None:
    """Have all threads allocate from one heap where glibc would give each its own, 5 MiB in all.

    To be called before the first thread. One runs at a time, but for those that are in SQLite or TLS.
    """
    with contextlib.suppress(OSError, AttributeError):
        ctypes.CDLL(None).mallopt(_M_ARENA_MAX, 1)


def allow_connections() -> None:
    """Raise the soft limit of open files as far as a gateway could need it."""
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    wanted = _DESCRIPTORS if hard == resource.RLIM_INFINITY else min(_DESCRIPTORS, hard)
    if soft != resource.RLIM_INFINITY and soft < wanted:
        with contextlib.suppress(OSError, ValueError):
            resource.setrlimit(resource.RLIMIT_NOFILE, (wanted, hard))


def tune_interpreter() -> None:
    """Spend less on looking for cyclic garbage, of which requests leave none, and let threads give way sooner.

    To be called in the process that serves, once everything is imported.
    """
    gc.collect()
    gc.freeze()
    gc.set_threshold(*_GC_THRESHOLDS)
    sys.setswitchinterval(_SWITCH_SECONDS)


def connection_limit() -> int:
    """How many connections, of clients and to upstreams, the limit of open files leaves room for."""
    soft, _ = resource.getrlimit(resource.RLIMIT_NOFILE)
    files = _DESCRIPTORS if soft == resource.RLIM_INFINITY else min(soft, _DESCRIPTORS)
    return max(_FEWEST, files - _RESERVED)


class Terminal:
    """The terminal that this process was started from, if it was: to be made at its start."""

    def __init__(self) -> None:
        self._had_one = _has_terminal()

    def is_gone(self) -> bool:
        """Tell whether it was closed: a HUP then comes from its end and asks for nothing."""
        return self._had_one and not _has_terminal()


def _has_terminal() -> bool:
    try:
        os.close(os.open("/dev/tty", os.O_RDWR | os.O_NOCTTY | os.O_CLOEXEC))
    except OSError:
        return False
    return True
