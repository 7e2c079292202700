"""Processes of two hosts over a virtual database, whose clock the tests set."""

import random
from pathlib import Path

from msgspec.structs import replace

from sim.database import Rules, VirtualDatabase, VirtualTables
from tokenferry.fleet import FleetJournal, FleetStore, Spill
from tokenferry.settings import Home
from tokenferry.stores import ProcessIdentity, Seal


class TwoHosts:
    """What the hosts share."""

    def __init__(self, folder: Path) -> None:
        self.time = 1_800_000_000.0
        self.folder = folder
        self.database = VirtualDatabase(now=lambda: self.time, replaced=lambda *_, **__: None)
        self.rules = Rules()
        self.in_doubt = False
        self.gone: set[ProcessIdentity] = set()
        self.database.commit()

    def spill(self, host: str = "h1") -> Spill:
        return Spill(self.folder / host / "spill", seal=Seal(Home(self.folder / host)))

    def tables(self) -> VirtualTables:
        """The database as another process sees it."""
        return VirtualTables(
            self.database, random.Random(0), self.rules, doubt=lambda: float(self.in_doubt), later=lambda _, do: do()
        )

    def process(self, host: str = "h1", *, unsealed: bool = True) -> tuple[FleetStore, FleetJournal]:
        """Another process of that host."""
        tables = self.tables()
        store = FleetStore(
            tables,
            Seal(Home(self.folder / host)),
            self.spill(host),
            unsealed=unsealed,
            monotonic=lambda: self.time,
            now=lambda: self.time,
            is_gone=self.gone.__contains__,
        )
        return store, FleetJournal(tables, self.spill(host), store.heartbeat, host, monotonic=lambda: self.time)

    def identity(self, host: str = "h1") -> ProcessIdentity:
        return replace(ProcessIdentity.own(), instance=host)
