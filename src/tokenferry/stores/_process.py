"""The identity of a process, by which a record can tell whether it has ended or only sleeps."""

import os
from pathlib import Path
from typing import Final

from msgspec import Struct

from tokenferry.stores._boot import boot_id

_START_FIELD: Final = 19  # of what follows the command name in proc(5) stat: field 22, starttime


class ProcessIdentity(Struct, frozen=True):
    """The identity of a process: a reused pid has another start, a restarted machine another boot id.

    `instance` is its name in a store that several hosts share; empty for a process of this machine only.
    """

    pid: int
    start: str
    boot: str
    instance: str = ""

    @classmethod
    def own(cls) -> "ProcessIdentity":
        return cls(os.getpid(), _start(os.getpid()), boot_id())

    def is_gone(self) -> bool:
        """Tell whether the process has provably ended."""
        if self.boot != boot_id():
            return True
        try:
            os.kill(self.pid, 0)
        except ProcessLookupError:
            return True
        except OSError:
            pass
        return _start(self.pid) != self.start


def _start(pid: int) -> str:
    try:
        stat = Path(f"/proc/{pid}/stat").read_text(encoding="ascii", errors="replace")
    except OSError:
        return ""
    return stat.rpartition(")")[2].split()[_START_FIELD]
