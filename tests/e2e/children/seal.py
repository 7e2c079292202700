"""Seal a home, rotate its key, or unseal it, and die by SIGKILL just before the disk operation of that number."""

import contextlib
import os
import sys
from pathlib import Path

sys.path.insert(0, str(Path(__file__).parents[2]))

from e2e.children.crash import Fatal, FatalDisk
from tokenferry.accounts import Sealing
from tokenferry.refresh import FileJournal
from tokenferry.sealing import KeyPlace
from tokenferry.settings import Home
from tokenferry.stores import AttachedStore, FileStore, MemoryStore, Seal


class NoMoves:
    def concerns(self, name: str) -> bool:
        return False

    def recover(self, timeout: float) -> None:
        raise AssertionError

    def held_off(self, timeout: float) -> contextlib.AbstractContextManager[None]:
        return contextlib.nullcontext()


def main(command: str, last: int, log: Path) -> None:
    fatal = Fatal(last, log)
    disk = FatalDisk(fatal, "home")
    home = Home.from_environment()
    seal = Seal(home, disk=disk)
    files = FileStore(home, disk=disk, seal=seal)
    store = AttachedStore(files, home.attached, lambda _: MemoryStore(), moves=NoMoves(), disk=disk)
    journal = FileJournal(home.journal, disk=disk, seal=seal)
    sealing = Sealing(home, files, store, journal, NoMoves(), disk=disk)
    place = KeyPlace(Path(os.environ["TOKENFERRY_SEAL_KEY_FILE"]))
    if command == "unseal":
        result = sealing.unseal()
    else:
        result = sealing.seal(place) if command == "seal" else sealing.rotate(place)
    assert not result.faults, result.faults
    fatal.note("done")


if __name__ == "__main__":
    main(sys.argv[1], int(sys.argv[2]), Path(sys.argv[3]))
