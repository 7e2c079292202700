"""A process of one host that seals the accounts of several, and may end at any operation."""

import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

from tokenferry.broker._fleet_sealing import FleetSealing
from tokenferry.fleet import FleetStore, Spill, Tables
from tokenferry.sealing import KeyPlace
from tokenferry.settings import Home
from tokenferry.stores import DISK, Seal


class Killed(BaseException):
    """The process ends here."""


class Countdown:
    """Ends the process before its n-th operation on disk or database."""

    def __init__(self, left: int = -1) -> None:
        self.left = left

    def around(self, target: Any) -> Any:
        return _Mortal(target, self)

    def step(self) -> None:
        self.left -= 1
        if self.left == 0:
            raise Killed


class _Mortal:
    def __init__(self, target: Any, countdown: Countdown) -> None:
        self._target = target
        self._countdown = countdown

    def __getattr__(self, name: str) -> Any:
        found = getattr(self._target, name)

        def call(*args: Any, **kwargs: Any) -> Any:
            self._countdown.step()
            return found(*args, **kwargs)

        return call if callable(found) else found


class SealingHost:
    """A process that has no key in memory yet. Its key file is beside its home."""

    def __init__(  # which host, over which database
        self,
        folder: Path,
        name: str,
        tables: Tables,
        *,
        countdown: Countdown | None = None,
        unsealed: bool = False,
        monotonic: Callable[[], float] = time.monotonic,
        now: Callable[[], float] = time.time,
    ) -> None:
        countdown = countdown or Countdown()
        home, disk = Home(folder / name), countdown.around(DISK)
        home.path.mkdir(mode=0o700, exist_ok=True)
        self.key_file = folder / f"{name}.key"
        self.tables: Tables = countdown.around(tables)
        seal = Seal(home, disk=disk)
        self.spill = Spill(home.spill, seal=seal, disk=disk)
        self.store = FleetStore(
            *(self.tables, seal, self.spill), unsealed=unsealed, monotonic=monotonic, now=now, host=name
        )
        self.sealing = FleetSealing(home, self.store, self.tables, self.spill, unsealed=unsealed)

    def enable(self) -> None:
        assert not self.sealing.seal(KeyPlace(self.key_file)).faults
