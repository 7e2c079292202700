"""Settings of the gateway's process: core dumps, memory, open files and the interpreter."""

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
    """Prevent core dumps, which would hold tokens, and on Linux other processes' access to this one's memory.

    A size limit of 0 isn't enough if the system pipes dumps to a program (core(5)).
    """
    resource.setrlimit(resource.RLIMIT_CORE, (0, resource.getrlimit(resource.RLIMIT_CORE)[1]))
    if sys.platform == "linux":
        with contextlib.suppress(OSError, AttributeError):
            ctypes.CDLL(None).prctl(_PR_SET_DUMPABLE, 0, 0, 0, 0)


def share_heap() -> None:
    """Make all threads allocate from one heap. With glibc, one heap per thread would cost 5 MiB in all.

    Call it before the first thread. There is little contention, since only SQLite and TLS run in parallel.
    """
    with contextlib.suppress(OSError, AttributeError):
        ctypes.CDLL(None).mallopt(_M_ARENA_MAX, 1)


def allow_connections() -> None:
    """Raise the soft limit of open files to what a gateway may need."""
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    wanted = _DESCRIPTORS if hard == resource.RLIM_INFINITY else min(_DESCRIPTORS, hard)
    if soft != resource.RLIM_INFINITY and soft < wanted:
        with contextlib.suppress(OSError, ValueError):
            resource.setrlimit(resource.RLIMIT_NOFILE, (wanted, hard))


def tune_interpreter() -> None:
    """Collect cyclic garbage less often, since requests leave none, and switch threads sooner.

    Call it in the serving process, after all imports.
    """
    gc.collect()
    gc.freeze()
    gc.set_threshold(*_GC_THRESHOLDS)
    sys.setswitchinterval(_SWITCH_SECONDS)


def connection_limit() -> int:
    """Give the number of connections, of clients and to upstreams, that the limit of open files allows."""
    soft, _ = resource.getrlimit(resource.RLIMIT_NOFILE)
    files = _DESCRIPTORS if soft == resource.RLIM_INFINITY else min(soft, _DESCRIPTORS)
    return max(_FEWEST, files - _RESERVED)


class Terminal:
    """The terminal that started this process, if any. Create it at the start."""

    def __init__(self) -> None:
        self._had_one = _has_terminal()

    def is_gone(self) -> bool:
        """Whether the terminal was closed. Its end sends a HUP, which then doesn't ask for a reload."""
        return self._had_one and not _has_terminal()


def _has_terminal() -> bool:
    try:
        os.close(os.open("/dev/tty", os.O_RDWR | os.O_NOCTTY | os.O_CLOEXEC))
    except OSError:
        return False
    return True
