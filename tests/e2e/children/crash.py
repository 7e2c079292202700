"""Resolve an account, and die by SIGKILL just before the step of that number; a write can be cut in its middle.

Steps are what the store and the journal ask of the disk, and the request. How far it came goes to a file.
"""

import os
import signal
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Final

from tokenferry import Broker
from tokenferry.config import load
from tokenferry.oauth import HttpOutcome, TokenRequest
from tokenferry.refresh import FileJournal, Sender, send
from tokenferry.settings import Home
from tokenferry.stores import Disk, FileStore

_ANSWER_AT: Final = 4096


class Fatal:
    """Counts steps, and is the end of the process at one of them."""

    def __init__(self, last: int, log: Path) -> None:
        self._last = last
        self._log = os.open(log, os.O_WRONLY | os.O_CREAT | os.O_APPEND, 0o600)
        self._count = 0
        self.steps: list[str] = []

    def note(self, what: str) -> None:
        os.write(self._log, f"{what}\n".encode())

    def step(self, what: str) -> None:
        if self.is_last(what):
            self.die()

    def is_last(self, what: str) -> bool:
        self._count += 1
        self.steps.append(what)
        if self._count == self._last:
            self.note(f"dead before: {what}")
            return True
        return False

    def die(self) -> None:
        os.kill(os.getpid(), signal.SIGKILL)


class FatalDisk(Disk):
    """`stamps` is left out: a thread looks at them twice a second, and writes nothing."""

    def __init__(self, fatal: Fatal, owner: str) -> None:
        self._fatal = fatal
        self._owner = owner

    def _step(self, what: str) -> None:
        self._fatal.step(f"{self._owner} {what}")

    def read(self, path: Path) -> bytes:
        self._step("read")
        return super().read(path)

    def make_folder(self, path: Path) -> None:
        self._step("make folder")
        super().make_folder(path)

    def create(self, path: Path) -> int:
        self._step("create")
        return super().create(path)

    def open(self, path: Path) -> int:
        self._step("open")
        return super().open(path)

    def write(self, descriptor: int, data: bytes, offset: int = 0) -> None:
        self._step("write")
        if self._fatal.is_last(f"{self._owner} write's second half"):
            super().write(descriptor, data[: len(data) // 2], offset)
            self._fatal.die()
        super().write(descriptor, data, offset)
        if self._owner == "journal" and offset == _ANSWER_AT:
            self._fatal.note("journalled")

    def fsync(self, descriptor: int) -> None:
        self._step("fsync")
        super().fsync(descriptor)

    def close(self, descriptor: int) -> None:
        self._step("close")
        super().close(descriptor)

    def rename(self, old: Path, new: Path) -> None:
        self._step("rename")
        super().rename(old, new)

    def unlink(self, path: Path) -> None:
        self._step("unlink")
        super().unlink(path)

    def sync_folder(self, path: Path) -> None:
        self._step("sync folder")
        super().sync_folder(path)

    def names(self, folder: Path) -> list[str]:
        self._step("names")
        return super().names(folder)


def fatal_send(fatal: Fatal) -> Sender:
    """Send a refresh, and note that its first byte leaves."""

    def post(request: TokenRequest, timeout: float, sending: Callable[[], None] = lambda: None) -> HttpOutcome:
        def leave() -> None:
            sending()
            fatal.note("presented")

        fatal.step("request")
        answer = send(request, timeout, leave)
        fatal.step("answer")
        return answer

    return post


def main(name: str, last: int, log: Path) -> None:
    fatal = Fatal(last, log)
    home = Home.from_environment()
    broker = Broker(
        store=FileStore(home, disk=FatalDisk(fatal, "store")),
        journal=FileJournal(home.journal, disk=FatalDisk(fatal, "journal")),
        providers=load(home.config).providers,
        home=home,
        send=fatal_send(fatal),
    )
    token = broker.resolve(name).secret.sha256
    fatal.note("done")
    sys.stdout.write("\n".join([token, *fatal.steps]))


if __name__ == "__main__":
    main(sys.argv[1], int(sys.argv[2]), Path(sys.argv[3]))
