from collections.abc import Callable, Iterable
from pathlib import Path
from typing import Literal, TypeAlias

Stamp: TypeAlias = tuple[int, ...] | None


def file_stamp(path: Path) -> Stamp:
    """What changes when a file is written or replaced; None if it does not exist or cannot be examined."""
    try:
        status = path.stat()
    except OSError:
        return None
    return status.st_dev, status.st_ino, status.st_size, status.st_mtime_ns, status.st_ctime_ns


class FileWatcher:
    """Compares files, including absent ones, with their state at the last `reset`.

    `paths` names them at each look. It starts no thread. Two writes within one tick of the file system's clock that
    leave the size as it is count as one, and so does a change that is undone between two looks.
    """

    def __init__(self, paths: Callable[[], Iterable[Path]]) -> None:
        self._paths = paths
        self._settling: dict[Path, Stamp] | None = None
        self._seen = self._stamps()

    def look(self) -> Literal["same", "settling", "changed"]:
        """A change is `settling` until two looks in a row find it: a program may still be writing the file."""
        now, before = self._stamps(), self._settling
        self._settling = None if now == self._seen else now
        if self._settling is None:
            return "same"
        return "changed" if now == before else "settling"

    def reset(self) -> None:
        """Compare with the files as they are now. Call it before you read them, so that no write is missed."""
        self._seen, self._settling = self._stamps(), None

    def _stamps(self) -> dict[Path, Stamp]:
        return {path: file_stamp(path) for path in self._paths()}
