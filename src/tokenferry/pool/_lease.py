from typing import TYPE_CHECKING

from tokenferry.pool._account import Target
from tokenferry.pool._selection import Selection

if TYPE_CHECKING:
    from tokenferry.pool._pool import Pool


class Lease:
    """What a request holds of an account: a slot, and its recovery probe. Only the first `end` does anything."""

    __slots__ = ("_is_held", "_pool", "delay", "is_probing", "selection", "target")

    def __init__(self, pool: "Pool", target: Target, selection: Selection, delay: float | None = None) -> None:
        """Take a slot of the account. One that is reserved comes with its `delay`."""
        self.target = target
        self.selection = selection
        if delay is None:
            delay = pool.capacity.acquire(selection.account.name, pool.monotonic())
        self.delay = delay
        """Seconds until the slot can be used."""
        self._pool = pool
        self._is_held = True
        self.is_probing = selection.probed is not None

    def reuse(self) -> float:
        """Use the slot once more; give the seconds until it can be used."""
        return self._pool.capacity.reserve_rate(self.selection.account.name, self._pool.monotonic())

    def end_probe(self, *, has_failed: bool | None) -> None:
        """End the recovery probe, if one is under way. `has_failed` is None where nothing was found out."""
        if self.is_probing:
            self.is_probing = False
            self._pool.end_probe(self.selection, has_failed=has_failed)

    def end(self) -> None:
        if self._is_held:
            self._is_held = False
            if self.is_probing:
                self.end_probe(has_failed=None)
            self._pool.end(self.selection.account)
