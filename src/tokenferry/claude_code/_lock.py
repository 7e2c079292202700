import contextlib
import logging
import os
import threading
import time
from collections.abc import Callable
from pathlib import Path
from typing import Final, TypedDict, Unpack

from msgspec import Struct

from tokenferry.background import PeriodicThread, after_fork_in_child
from tokenferry.claude_code._home import ClaudeCodeHome
from tokenferry.claude_code._lock_directory import LockDirectory
from tokenferry.claude_code._sightings import Sightings
from tokenferry.errors import LockTimeout, RefreshFailed
from tokenferry.secret import parse_object
from tokenferry.stores import DISK, Disk, boot_id

logger = logging.getLogger(__name__)


class LockTiming(Struct, frozen=True):
    """How often lock directories are touched, and when they count as left behind. All in seconds."""

    heartbeat: float = 2.0
    """How often a held lock is touched. The least patient reader takes over after 10."""
    stale: float = 60.0
    """A lock that didn't change for this long, on a monotonic clock, has no owner."""
    ancient: float = 3600.0
    """A lock last touched this long ago, by the wall clock, has no owner after `look`, unless its process runs."""
    look: float = 10.0
    """After the clock was set, or the machine slept, a lock looks old until its holder touches it."""
    pause: float = 0.1
    """Between two looks at a lock that is held."""
    write: float = 10.0
    """The longest wait for the write lock, which others hold for milliseconds."""


_TIMING: Final = LockTiming()


class _Surroundings(TypedDict, total=False):
    """Stand-ins for this machine's disk and clocks, for tests. Times in seconds."""

    timing: LockTiming
    disk: Disk
    now: Callable[[], float]
    monotonic: Callable[[], float]
    boot: Callable[[], str]
    sleep: Callable[[float], None]


class _Locks:
    """Lock directories: acquired in order, kept fresh by a daemon thread, and released in reverse order."""

    def __init__(
        self,
        paths: tuple[Path, ...],
        seen: Path,
        *,
        owner: Path | None = None,
        timing: LockTiming = _TIMING,
        disk: Disk = DISK,
        now: Callable[[], float] = time.time,
        monotonic: Callable[[], float] = time.monotonic,
        boot: Callable[[], str] = boot_id,
        sleep: Callable[[float], None] = time.sleep,
    ) -> None:
        self._paths = paths
        self._owner = owner
        self._timing = timing
        self._sightings = Sightings(seen, disk=disk, monotonic=monotonic, boot=boot)
        self._disk = disk
        self._now = now
        self._monotonic = monotonic
        self._sleep = sleep
        self._taken: list[LockDirectory] = []
        self._guard = threading.Lock()
        self._heart = PeriodicThread("tokenferry-lock-heart", self.beat, timing.heartbeat)
        after_fork_in_child(self.forget)

    def acquire(self, timeout: float) -> None:
        """Take all of them, waiting `timeout` seconds at most.

        Raises `LockTimeout` with the holder's name, `UnsafeFile` if one isn't a directory, `StorageFailed`.
        """
        assert not self._taken, "it isn't re-entrant"
        deadline = self._monotonic() + timeout
        try:
            while (path := self.take()) is not None:
                self._wait(path, deadline)
        except BaseException:
            self.release()
            raise

    def is_still_ours(self) -> bool:
        """Whether all are held, and no other process took one over. Look before each step that needs them."""
        with self._guard:
            return len(self._taken) == len(self._paths) and all(directory.is_ours() for directory in self._taken)

    def release(self) -> None:
        """Release the locks that are still ours; does nothing when none is held."""
        with self._guard:
            self._heart.stop(0)
            while self._taken:
                self._taken.pop().remove()

    def forget(self) -> None:
        """In a forked child: the parent holds them, and its thread keeps them fresh."""
        self._guard = threading.Lock()
        while self._taken:
            self._taken.pop().forget()

    def take(self) -> Path | None:
        """Take the free ones, in order; give the one that another program holds, or None when all are ours.

        Raises `UnsafeFile` if one isn't a directory, `StorageFailed`.
        """
        while len(self._taken) < len(self._paths):
            path, *further = self._paths[len(self._taken) :]
            directory = LockDirectory(path, disk=self._disk)
            seen = directory.make()
            if seen is None:
                self._keep(directory)
            elif self._is_stale(path, seen) and directory.clear(seen):
                logger.warning("the lock %s was left behind by a program that ended, and is taken over", path)
            else:
                for other in further:  # a killed process left all of them: let their times run out together
                    with contextlib.suppress(OSError):
                        self._sightings.unchanged_for(other, self._disk.status(other))
                return path
        return None

    def beat(self) -> None:
        """Touch those that are still ours."""
        with self._guard:
            for directory in filter(LockDirectory.is_ours, self._taken):
                try:
                    directory.touch()
                except OSError as fault:
                    logger.warning("the lock %s can't be kept fresh: %s", directory.path, fault.strerror)

    def _keep(self, directory: LockDirectory) -> None:
        with self._guard:
            self._taken.append(directory)
        self._sightings.forget(directory.path)
        if len(self._taken) == 1:
            self._start_heart()

    def _is_stale(self, path: Path, seen: os.stat_result) -> bool:
        unchanged = self._sightings.unchanged_for(path, seen)
        if unchanged >= self._timing.stale:
            return True
        is_ancient = self._now() - seen.st_mtime > self._timing.ancient
        return is_ancient and unchanged >= self._timing.look and self._owner_pid() is None

    def _owner_pid(self) -> int | None:
        """The process that says it holds the lock, if it runs. An old note may name another program's process."""
        try:
            is_there = self._owner is not None and self._owner.is_file()  # opening a FIFO would wait for its other end
            note = parse_object(self._owner.read_bytes()[:4096]) if self._owner and is_there else None
            pid = note.get("pid") if note else None
            if not isinstance(pid, int) or pid <= 0:
                return None
            os.kill(pid, 0)
        except PermissionError:
            return pid
        except (OSError, OverflowError):
            return None
        return pid

    def _wait(self, path: Path, deadline: float) -> None:
        left = deadline - self._monotonic()
        if left <= 0:
            pid = self._owner_pid()
            holder = "Claude Code" if pid is None else f"Claude Code (process {pid})"
            raise LockTimeout(f"{path} is held by {holder}; try again when it is done", holder=holder)
        self._sleep(min(left, self._timing.pause))

    def _start_heart(self) -> None:
        try:
            self._heart.start()
        except RuntimeError:  # the interpreter is shutting down, or out of threads
            raise RefreshFailed(f"no thread could be started to keep {self._paths[0]} fresh") from None


class ClaudeCodeLock(_Locks):
    """Both lock directories of a refresh by Claude Code, in its order, and kept fresh.

    While this process holds them and runs, no Claude Code on this machine refreshes. A suspended process loses them
    after 60 seconds (older versions: 10), and `is_still_ours` is then False. The lock isn't re-entrant and isn't fair.
    It can't stop a program that writes without taking it. `seen` is the folder of `Sightings`.
    """

    def __init__(self, home: ClaudeCodeHome, seen: Path, **given: Unpack[_Surroundings]) -> None:
        super().__init__((home.refresh_lock, home.folder_lock), seen, owner=home.refresh_lock_owner, **given)


class WriteLock(_Locks):
    """The lock directory that every write of Claude Code's credentials takes."""

    def __init__(self, home: ClaudeCodeHome, seen: Path, **given: Unpack[_Surroundings]) -> None:
        super().__init__((home.write_lock,), seen, **given)
