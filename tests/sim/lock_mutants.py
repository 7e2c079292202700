"""Our locks in Claude Code's folder, with one safeguard taken out at a time."""

import os
from pathlib import Path
from typing import Final

from typing_extensions import override

from sim.neighbours import Lock


class _Heartless(Lock):
    @override
    def _start_heart(self) -> None:
        return


class _Hasty(Lock):
    @override
    def _is_stale(self, path: Path, seen: os.stat_result) -> bool:
        return True


class _Timid(Lock):
    @override
    def _is_stale(self, path: Path, seen: os.stat_result) -> bool:
        return False


class _Sure(Lock):
    @override
    def is_still_ours(self) -> bool:
        return bool(self._taken)


LOCK_MUTANTS: Final[dict[str, type[Lock]]] = {
    "has no heart": _Heartless,
    "takes any lock for stale": _Hasty,
    "takes no lock for stale": _Timid,
    "does not see that it lost them": _Sure,
}
