import contextlib
import logging
import threading
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path
from queue import Empty, SimpleQueue
from typing import Final

from tokenferry.config._load import Config
from tokenferry.errors import ConfigError, TokenferryError

logger = logging.getLogger(__name__)

_LOOK: Final = 0.5

Stamp = tuple[int, ...] | None


@dataclass(frozen=True, slots=True)
class ConfigSource:
    """The file that a configuration is read from, and how: `read` raises `TokenferryError`."""

    path: Path
    read: Callable[[], Config]


class Follower:
    """Follows a configuration while a process runs, by the files that it is made of.

    `read` gives it as it is now, or raises `TokenferryError`: then `current` stays, and `complain` gets the reason.
    `watched` names the files. A change counts once the files have been the same at two looks, for who writes a file in
    place has written a part of it meanwhile.
    """

    def __init__(
        self,
        current: Config,
        *,
        read: Callable[[], Config],
        watched: Callable[[Config], Iterable[Path]],
        complain: Callable[[str], None] = logger.error,
    ) -> None:
        self.current = current
        self._read = read
        self._watched = watched
        self.complain = complain
        self._asked: SimpleQueue[bool] = SimpleQueue()
        self._seen = self._stamps()
        self._settling: dict[Path, Stamp] | None = None
        self._is_sure = False

    def look(self) -> Config | None:
        """Give the configuration if it has changed and can be used; to be called about twice a second."""
        now = self._stamps()
        if now == self._seen:
            self._settling = None
            if self._is_sure:
                return None
            before, new = self.current, self.reread()  # it may have changed between its reading and the first stamps
            return None if new == before else new
        if now != self._settling:
            self._settling = now
            return None
        return self.reread()

    def reread(self) -> Config | None:
        """Give the configuration as it is now, whatever changed; None if it can't be used."""
        self._seen, self._settling, self._is_sure = self._stamps(), None, True
        path = self.current.path
        try:
            new = self._read()
            if path is not None and new.path is None:
                raise ConfigError(f"{path} is gone")  # told like any other fault
        except TokenferryError as fault:
            self.complain(f"the configuration is not followed, what held before stays: {fault}")
            return None
        self.current = new
        return new

    def ask(self) -> None:
        """Have it read again at once, by whoever follows in the background; from signal handlers, too."""
        self._asked.put(True)

    @contextlib.contextmanager
    def in_background(self, found: Callable[[Config], None], *, looks: bool = True) -> Iterator[None]:
        """Follow on a thread of its own within the block: `found` gets each new configuration there.

        It `looks` by itself, or only when asked.
        """
        thread = threading.Thread(target=self._follow, args=(found, looks), name="tokenferry-config", daemon=True)
        thread.start()
        try:
            yield
        finally:
            self._asked.put(False)
            thread.join()

    def _follow(self, found: Callable[[Config], None], looks: bool) -> None:  # noqa: FBT001  # a thread's argument
        while True:
            try:
                asked = [self._asked.get(timeout=_LOOK if looks else None)]
                while not self._asked.empty():  # of many that ask at once, one is enough
                    asked.append(self._asked.get())
            except Empty:
                asked = []
            if False in asked:
                return
            try:
                new = self.reread() if asked else self.look()
            except Exception:
                logger.exception("the configuration could not be looked at")
                continue
            if new is not None:
                found(new)

    def _stamps(self) -> dict[Path, Stamp]:
        return {path: _stamp(path) for path in self._watched(self.current)}


def _stamp(path: Path) -> Stamp:
    try:
        status = path.stat()
    except OSError:
        return None
    return status.st_dev, status.st_ino, status.st_size, status.st_mtime_ns, status.st_ctime_ns
