import contextlib
import logging
from collections.abc import Callable, Iterable, Iterator
from pathlib import Path
from typing import Final

from msgspec import Struct

from tokenferry.background import FileWatcher, PeriodicThread
from tokenferry.config._load import Config
from tokenferry.errors import ConfigError, TokenferryError

logger = logging.getLogger(__name__)

_LOOK: Final = 0.5


class ConfigSource(Struct, frozen=True):
    """The file of a configuration, and its reader; `read` raises `TokenferryError`."""

    path: Path
    read: Callable[[], Config]


class Follower:
    """Follows a configuration while a process runs, by the files that it consists of.

    `read` gives the present configuration, or raises `TokenferryError`; then `current` stays and `complain` gets the
    reason. `watched` names the files. A change counts once two looks find the same files, because a program may be in
    the middle of a write.
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
        self.complain = complain
        self._files = FileWatcher(lambda: watched(self.current))
        self._is_sure = self._is_asked = False
        self._thread: PeriodicThread | None = None

    def look(self) -> Config | None:
        """Give the configuration if it has changed and is valid. Call it about twice a second."""
        state = self._files.look()
        if state == "same" and not self._is_sure:
            before, new = self.current, self.reread()  # it may have changed between its reading and the first stamps
            return None if new == before else new
        return self.reread() if state == "changed" else None

    def reread(self) -> Config | None:
        """Give the present configuration, changed or not; None if it is invalid."""
        self._files.reset()
        self._is_sure = True
        path = self.current.path
        try:
            new = self._read()
            if path is not None and new.path is None:
                raise ConfigError(f"{path} is gone")  # reported like any other fault
        except TokenferryError as fault:
            self.complain(f"the configuration is not followed, what held before stays: {fault}")
            return None
        self.current = new
        return new

    def ask(self) -> None:
        """Let the following thread read again at once. A signal handler may call it."""
        self._is_asked = True
        if self._thread is not None:
            self._thread.wake()

    @contextlib.contextmanager
    def in_background(self, found: Callable[[Config], None], *, looks: bool = True) -> Iterator[None]:
        """Follow on a thread during the block; `found` gets each new configuration there.

        It `looks` by itself, or only after `ask`.
        """

        def follow() -> None:
            if asked := self._is_asked:
                self._is_asked = False  # not before it was seen: a call in between has the thread called again
            if (new := self.reread() if asked else self.look()) is not None:
                found(new)

        trouble = "the configuration could not be looked at"
        self._thread = PeriodicThread("tokenferry-config", follow, _LOOK if looks else None, trouble=trouble)
        if self._is_asked:
            self._thread.wake()
        with self._thread:
            yield
