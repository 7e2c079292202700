"""A disk in memory that forgets, at a power cut, whatever was not synced, and can fail or die at any operation."""

import contextlib
import errno
import os
import random
import stat
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from pathlib import Path

from typing_extensions import override

from tokenferry.stores import Disk


class Killed(BaseException):
    """The process died in the middle of a disk operation."""


@dataclass
class _Inode:
    data: bytearray = field(default_factory=bytearray)
    synced: bytes = b""
    is_directory: bool = False
    mtime: float = 0.0


class VirtualDisk(Disk):
    """Shared by all virtual processes. `die_at` counts operations down to the death of whoever runs then."""

    def __init__(self, rng: random.Random) -> None:
        self._rng = rng
        self._names: dict[Path, _Inode] = {}
        self._synced_names: dict[Path, _Inode] = {}
        self._open: dict[int, _Inode] = {}
        self._next = 3
        self.operations = 0
        self.writes = 0
        self.die_at: int | None = None
        self.is_full = False
        self.is_read_only = False
        self.is_dying = False
        """Whoever died does nothing more, not even what `finally` says."""
        self.now: Callable[[], float] = lambda: 0.0

    def power_cut(self) -> None:
        """Lose what was not synced; an unsynced rename or removal may have reached the disk or not."""
        for path in sorted({*self._names, *self._synced_names}):
            if self._names.get(path) is not self._synced_names.get(path) and self._rng.random() < 0.5:
                self._sync_name(path)
        self._names = dict(self._synced_names)
        for inode in self._names.values():
            if bytes(inode.data) != inode.synced:
                cut = self._rng.randint(0, len(inode.data))
                torn = bytes(inode.data[:cut]) + inode.synced[cut:]
                inode.data = bytearray(self._rng.choice((inode.synced, torn)))
                inode.synced = bytes(inode.data)
        self._open = {}

    def first_byte(self, path: Path) -> bytes | None:
        """What a bystander sees at the start of a file; None if there is none."""
        return bytes(self._names[path].data[:1]) if path in self._names else None

    def contains(self, path: Path, data: bytes) -> bool:
        """Whether a bystander sees these bytes in a file."""
        return path in self._names and data in self._names[path].data

    def holds(self, data: bytes) -> bool:
        """Whether any file of ours holds these bytes."""
        return any(data in inode.data for inode in self._names.values())

    def _step(self, *, writes: bool = True) -> None:
        self.operations += 1
        self.writes += writes
        if self.is_dying or (self.die_at is not None and self.operations >= self.die_at):
            self.die_at, self.is_dying = None, True
            raise Killed
        if writes and self.is_read_only:
            raise OSError(errno.EROFS, os.strerror(errno.EROFS))

    def _need_room(self) -> None:
        if self.is_full:
            raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    def _sync_name(self, path: Path) -> None:
        if path in self._names:
            self._synced_names[path] = self._names[path]
        else:
            self._synced_names.pop(path, None)

    @override
    def read(self, path: Path) -> bytes:
        self._step(writes=False)
        if path not in self._names:
            raise FileNotFoundError(errno.ENOENT, os.strerror(errno.ENOENT))
        return bytes(self._names[path].data)

    @override
    def make_folder(self, path: Path) -> None:
        return

    @override
    def create(self, path: Path) -> int:
        self._step()
        self._need_room()
        if path in self._names:
            raise FileExistsError(errno.EEXIST, os.strerror(errno.EEXIST))
        self._names[path] = _Inode()
        return self._opened(self._names[path])

    @override
    def open(self, path: Path) -> int:
        self._step()
        if path not in self._names:
            raise FileNotFoundError(errno.ENOENT, os.strerror(errno.ENOENT))
        return self._opened(self._names[path])

    def _opened(self, inode: _Inode) -> int:
        self._next += 1
        self._open[self._next] = inode
        return self._next

    @override
    def write(self, descriptor: int, data: bytes, offset: int = 0) -> None:
        inode = self._open[descriptor]
        if offset + len(data) > len(inode.data):
            self._step()
            self._need_room()
            inode.data.extend(bytes(offset + len(data) - len(inode.data)))
        half = len(data) // 2
        inode.data[offset : offset + half] = data[:half]
        self._step()  # dying here leaves half of it
        inode.data[offset : offset + len(data)] = data

    @override
    def fsync(self, descriptor: int) -> None:
        self._step()
        inode = self._open[descriptor]
        inode.synced = bytes(inode.data)

    @override
    def close(self, descriptor: int) -> None:
        self._open.pop(descriptor, None)

    @override
    def check_replaceable(self, path: Path) -> None:
        return

    @override
    def rename(self, old: Path, new: Path) -> None:
        self._step()
        self._names[new] = self._names.pop(old)

    @override
    def unlink(self, path: Path) -> None:
        self._step()
        if path not in self._names:
            raise FileNotFoundError(errno.ENOENT, os.strerror(errno.ENOENT))
        del self._names[path]

    @override
    def make_directory(self, path: Path) -> None:
        self._step()
        if path in self._names:
            raise FileExistsError(errno.EEXIST, os.strerror(errno.EEXIST))
        self._need_room()
        self._names[path] = _Inode(is_directory=True, mtime=self.now())

    @override
    def remove_directory(self, path: Path) -> None:
        self.unlink(path)

    @override
    def open_directory(self, path: Path) -> int:
        return self.open(path)

    @override
    def touch(self, descriptor: int) -> None:
        self._step()
        self._open[descriptor].mtime = self.now()

    @override
    def status(self, what: Path | int) -> os.stat_result:
        self._step(writes=False)
        inode = self._open[what] if isinstance(what, int) else self._names.get(what)
        if inode is None:
            raise FileNotFoundError(errno.ENOENT, os.strerror(errno.ENOENT))
        mode = stat.S_IFDIR if inode.is_directory else stat.S_IFREG
        times = (0.0, inode.mtime, 0.0)
        return os.stat_result(
            (mode, id(inode), 1, 1, 0, 0, len(inode.data), *times), {"st_mtime_ns": round(inode.mtime * 1e9)}
        )

    @override
    def sync_folder(self, path: Path) -> None:
        self._step()
        for name in {*self._names, *self._synced_names}:
            if name.parent == path:
                self._sync_name(name)

    @override
    def names(self, folder: Path) -> list[str]:
        return sorted(path.name for path in self._names if path.parent == folder)

    @override
    def stamps(self, folder: Path) -> dict[str, tuple[int, ...]]:
        return {path.name: (id(inode),) for path, inode in self._names.items() if path.parent == folder}

    def exists(self, path: Path) -> bool:
        return path in self._names

    def drop(self, path: Path) -> None:
        """Remove it, if it is there."""
        if path in self._names:
            self.unlink(path)

    @contextlib.contextmanager
    def undisturbed(self) -> Iterator[None]:
        """A bystander looks: nobody dies of it."""
        die_at, operations, self.die_at = self.die_at, self.operations, None
        try:
            yield
        finally:
            self.die_at, self.operations = die_at, operations

    def peek(self, path: Path) -> bytes:
        """Its content as a bystander sees it."""
        return bytes(self._names[path].data)

    def put(self, path: Path, content: bytes) -> None:
        """Another file in its place, at once and for good."""
        self._names[path] = self._synced_names[path] = _Inode(bytearray(content), content)
