from collections.abc import Callable, Sequence
from collections.abc import Set as AbstractSet
from typing import TYPE_CHECKING, NamedTuple

from tokenferry.pool._account import Criteria, PoolAccount, Target
from tokenferry.pool._selection import Selection

if TYPE_CHECKING:
    from tokenferry.pool._pool import Pool


class Grant(NamedTuple):
    """An account that may serve. With a `delay`, in seconds, a slot of it is reserved."""

    target: Target
    selection: Selection
    delay: float | None = None


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
        self._grant: Grant | None = None
        pool.waiting.append(self)

    def offer(self, account: PoolAccount) -> bool:
        """Reserve the slot that is free there, if this request may use it, and leave the queue."""
        pool = self._pool
        for target in self._targets:
            selection = pool.select_only(target, self._criteria, self._passed_over, account)
            if selection is not None:
                pool.waiting.remove(self)
                self._grant = Grant(target, selection, pool.begin(account))
                self.wake()
                return True
        return False

    def take(self) -> Grant | None:
        """Give the reserved slot, once; it is the caller's from here on."""
        grant, self._grant = self._grant, None
        return grant

    def close(self) -> None:
        """Leave the queue, and give back a slot that was not taken."""
        if self in self._pool.waiting:
            self._pool.waiting.remove(self)
        if (grant := self.take()) is not None:
            self._pool.end(grant.selection.account)
