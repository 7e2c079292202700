import contextlib
import json
import os
import time
from collections.abc import Callable
from hashlib import sha256
from pathlib import Path
from typing import Any

from msgspec import Struct
from msgspec.structs import asdict

from tokenferry.errors import TokenferryError
from tokenferry.secret import Fields, parse_object
from tokenferry.stores import DISK, Disk, boot_id, remove_file, replace_private_file


class _Sighting(Struct, frozen=True):
    path: str
    device: int
    inode: int
    mtime_ns: int
    boot: str
    monotonic: float

    def is_of_the_same(self, other: "_Sighting") -> bool:
        """Whether both saw the same lock, unchanged, in the same run of the machine."""
        one, two = ((s.path, s.device, s.inode, s.mtime_ns, s.boot) for s in (self, other))
        return one == two and self.monotonic <= other.monotonic


class Sightings:
    """When a lock directory was first seen in its present state, stored on disk.

    So several short commands can notice together that a lock is no longer refreshed. The clock is monotonic: it stops
    while the machine sleeps, as the lock's holder does, and can't be set.
    """

    def __init__(
        self,
        folder: Path,
        *,
        disk: Disk = DISK,
        monotonic: Callable[[], float] = time.monotonic,
        boot: Callable[[], str] = boot_id,
    ) -> None:
        self._folder = folder
        self._disk = disk
        self._monotonic = monotonic
        self._boot = boot()
        self._known: dict[Path, _Sighting] = {}

    def unchanged_for(self, lock: Path, status: os.stat_result) -> float:
        """Seconds since a lock of this inode and modification time was first seen there."""
        real = str(lock.parent.resolve() / lock.name)
        now = self._monotonic()
        sighting = _Sighting(real, status.st_dev, status.st_ino, status.st_mtime_ns, self._boot, now)
        known = self._known.get(lock) or self._read(lock)
        if known is None or not known.is_of_the_same(sighting):
            known = sighting
            self._write(lock, sighting)
        self._known[lock] = known
        return now - known.monotonic

    def forget(self, lock: Path) -> None:
        """Drop the lock's sighting: the lock is ours now."""
        self._known.pop(lock, None)
        with contextlib.suppress(
            TokenferryError
        ):  # an old one is of another inode or time: it says nothing of the next
            remove_file(self._file(lock), disk=self._disk)

    def _file(self, lock: Path) -> Path:
        real = os.fsencode(lock.parent.resolve() / lock.name)
        return self._folder / f"{sha256(real).hexdigest()}.seen"

    def _read(self, lock: Path) -> _Sighting | None:
        try:
            fields = parse_object(self._disk.read(self._file(lock)))
        except (FileNotFoundError, TokenferryError):
            return None
        return None if fields is None else _sighting(fields)

    def _write(self, lock: Path, sighting: _Sighting) -> None:
        try:
            replace_private_file(self._file(lock), json.dumps(asdict(sighting)).encode("ascii"), disk=self._disk)
        except TokenferryError:  # then this process has to wait the whole time by itself
            return


def _sighting(fields: Fields) -> _Sighting | None:
    types: dict[str, Any] = {
        "path": str, "device": int, "inode": int, "mtime_ns": int, "boot": str, "monotonic": int | float
    }  # fmt: skip
    if all(isinstance(fields.get(key), kind) for key, kind in types.items()):
        return _Sighting(**{key: fields[key] for key in types})
    return None
