import secrets
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Final

from tokenferry.databases import open_state, postgres
from tokenferry.errors import UsageError
from tokenferry.fleet import FleetJournal, FleetStore, Spill, Tables
from tokenferry.manifest import doubt
from tokenferry.settings import Home, StoreSettings
from tokenferry.state import State
from tokenferry.stores import ProcessIdentity, Seal, create_private_file, read_private_file

_HOST: Final = "host"


class FleetBackend:
    """Accounts that several hosts share in a database. Of the home come the sealing key, profiles and the spill.

    A host is known by a name in its spill folder and by its process ids' namespace: containers that share an image, a
    machine id or a volume are hosts of their own. Raises `ConfigError` where the extra isn't installed.
    """

    home: Home

    def __init__(self, home: Home, settings: StoreSettings) -> None:
        doubt()  # `token` can't be answered from files alone
        self.home = home
        self.seal = Seal.of(home)
        self.machine = f"fleet {settings.fleet}"
        self._settings = settings
        folder = settings.spill or home.spill
        self._host = host_name(folder)
        self._pool = postgres().ConnectionPool(settings)
        self.tables: Tables = postgres().PostgresTables(self._pool, settings)
        self.spill = Spill(folder, seal=self.seal)
        self.store = FleetStore(
            *(self.tables, self.seal, self.spill),
            unsealed=settings.unsealed,
            serve_stale=settings.serve_stale,
            is_gone=self.is_gone,
            host=self._host.partition(":")[0],
        )
        self.journal = FleetJournal(self.tables, self.spill, self.store.heartbeat, self._host)

    def now(self) -> float:
        """The database's clock, as far as this process has measured it; seconds since 1970 UTC."""
        return time.time() + self.store.heartbeat.offset

    def process(self) -> ProcessIdentity:
        own = ProcessIdentity.own()
        return ProcessIdentity(own.pid, own.start, own.boot, self._host)

    def is_gone(self, process: ProcessIdentity) -> bool:
        """True for a process of this host that no longer runs, and for a host that an operator has forgotten."""
        return process.instance in {"", self._host} and process.is_gone()

    @contextmanager
    def state(self) -> Iterator[State | None]:
        with open_state(self.home, self._settings) as state:
            yield state


def host_name(spill: Path) -> str:
    """The name of this host in its spill folder, which is made at the first call. Raises `StorageFailed`."""
    with suppress(UsageError):  # another process was first
        create_private_file(spill / _HOST, f"{secrets.token_hex(8)}\n".encode())
    name = read_private_file(spill / _HOST).decode("ascii", "replace").strip()
    try:
        return f"{name}:{Path('/proc/self/ns/pid').readlink().name}"
    except OSError:  # a system without such namespaces
        return name
