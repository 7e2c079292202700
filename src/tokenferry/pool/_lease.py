"""What a request holds of an account, and how it waits for that."""

from collections.abc import Callable, Sequence
from collections.abc import Set as AbstractSet
from typing import TYPE_CHECKING

from tokenferry.pool._account import Criteria, PoolAccount, Target
from tokenferry.pool._selection import Selection

if TYPE_CHECKING:
    from tokenferry.pool._pool import Pool


class Lease:
    """Holds a slot of an account, its turn and its recovery probe. Only the first `end` does anything."""

    __slots__ = ("_is_held", "_pool", "_turn_at", "delay", "is_probing", "selection", "target")

    def __init__(self, pool: "Pool", target: Target, selection: Selection) -> None:
        self.target = target
        self.selection = selection
        at = pool.monotonic()
        self.delay = pool.capacity.acquire(selection.account.name, at)
        """Seconds until the slot can be used."""
        self._turn_at = at + self.delay
        self._pool = pool
        self._is_held = True
        self.is_probing = selection.probed is not None

    def reuse(self) -> float:
        """Use the slot once more; give the seconds until it can be used."""
        at = self._pool.monotonic()
        delay = self._pool.capacity.reserve_rate(self.selection.account.name, at)
        self._turn_at = at + delay
        return delay

    def end_probe(self, *, has_failed: bool | None) -> None:
        """End the recovery probe, if one is under way. `has_failed` is None where nothing was found out."""
        if self.is_probing:
            self.is_probing = False
            self._pool.selector.end_probe(self.selection, has_failed=has_failed)

    def resume(self) -> None:
        """Hold the slot again: more of an answer comes than was thought. It may be one more than the cap allows."""
        if not self._is_held:
            self._is_held = True
            busy, name = self._pool.capacity.busy, self.selection.account.name
            busy[name] = busy.get(name, 0) + 1

    def end(self) -> None:
        """Give the slot to the next request, and the turn, if it has not come yet."""
        if self._is_held:
            self._is_held = False
            if self.is_probing:
                self.end_probe(has_failed=None)
            pool, account = self._pool, self.selection.account
            if pool.capacity.is_capped and self._turn_at > pool.monotonic():
                pool.capacity.return_turn(account.name)
            pool.end(account)


def _do_nothing() -> None:
    pass


class Ticket:
    """A request that waits for a slot of any account that may serve it."""

    wake: Callable[[], object] = staticmethod(_do_nothing)
    """Called once a slot is reserved. It must not go on with the request itself: another one's is being ended."""

    def __init__(
        self, pool: "Pool", targets: Sequence[Target], criteria: Criteria, passed_over: AbstractSet[str]
    ) -> None:
        self._pool = pool
        self._targets = targets
        self._criteria = criteria
        self._passed_over = passed_over
        self._lease: Lease | None = None
        pool.waiting.append(self)

    def offer(self, account: PoolAccount) -> bool:
        """Reserve the slot that is free there, if this request may use it, and leave the queue."""
        pool = self._pool
        for target in self._targets:
            selection = pool.selector.select_only(target, self._criteria, self._passed_over, account)
            if selection is not None:
                pool.waiting.remove(self)
                self._lease = Lease(pool, target, selection)
                self.wake()
                return True
        return False

    def take(self) -> Lease | None:
        """Give the lease of the reserved slot, once; it is the caller's from here on."""
        lease, self._lease = self._lease, None
        return lease

    def close(self) -> None:
        """Leave the queue, and give back a slot that was not taken."""
        if self in self._pool.waiting:
            self._pool.waiting.remove(self)
        if (lease := self.take()) is not None:
            lease.end()
