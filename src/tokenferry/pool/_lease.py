"""What a request holds of an account, and how it waits for that."""

from collections.abc import Callable, Sequence
from collections.abc import Set as AbstractSet
from typing import TYPE_CHECKING

from tokenferry.pool._account import Criteria, PoolAccount, Target
from tokenferry.pool._selection import Selection
from tokenferry.rates import Permit

if TYPE_CHECKING:
    from tokenferry.pool._pool import Pool


class Lease(Permit):
    """Holds a slot of an account, the tokens expected of it, and its recovery probe. Only the first `end` counts."""

    __slots__ = ("_pool", "is_probing", "selection", "target")

    def __init__(self, pool: "Pool", target: Target, selection: Selection, tokens: int) -> None:
        super().__init__(pool.capacity.limiters(selection.account), pool.monotonic(), tokens)
        self.target = target
        self.selection = selection
        self._pool = pool
        self.is_probing = selection.probed is not None

    def reuse(self) -> float:
        """Use the slot once more; give the seconds until it can be used."""
        return self.renew(self._pool.monotonic()) if self._pool.capacity.is_capped else 0.0

    def not_sent(self) -> None:
        """The attempt sent nothing, so the account's rate doesn't count it."""
        if self._pool.capacity.is_capped:
            self.return_request(self._pool.monotonic())

    def end_probe(self, *, has_failed: bool | None) -> None:
        """End the recovery probe, if one is under way. `has_failed` is None where nothing was found out."""
        if self.is_probing:
            self.is_probing = False
            self._pool.selector.end_probe(self.selection, has_failed=has_failed)

    def end(self, used: int | None = 0) -> None:
        """Give the slot to the next request, and settle the tokens used; None for as many as were expected."""
        pool = self._pool
        if self.settle(pool.monotonic(), used):
            if self.is_probing:
                self.end_probe(has_failed=None)
            if pool.waiting:
                pool.offer(self.selection.account)


def _do_nothing() -> None:
    pass


class Ticket:
    """A request that waits until an account that may serve it has capacity."""

    wake: Callable[[], object] = staticmethod(_do_nothing)
    """Called once a slot is reserved, or its turn is first. It must not go on with the request itself: another one's
    is being ended."""

    def __init__(
        self, pool: "Pool", targets: Sequence[Target], criteria: Criteria, passed_over: AbstractSet[str]
    ) -> None:
        self.tokens = criteria.tokens
        self._pool = pool
        self._targets = targets
        self._criteria = criteria
        self._passed_over = passed_over
        self._lease: Lease | None = None
        pool.waiting.append(self)

    def select(self, account: PoolAccount) -> tuple[Target, Selection] | None:
        """The target that this account may serve for this request; None if it may not."""
        for target in self._targets:
            selection = self._pool.selector.select_only(target, self._criteria, self._passed_over, account)
            if selection is not None:
                return target, selection
        return None

    def grant(self, target: Target, selection: Selection) -> None:
        """Reserve what is free there for this request, which leaves the queue."""
        self._pool.waiting.remove(self)
        self._lease = Lease(self._pool, target, selection, self.tokens)

    def look(self) -> float:
        """Have every account that may serve it offered to those that wait; the seconds until its turn, if it is next.

        Infinite if it is not next anywhere.
        """
        pool, seconds = self._pool, float("inf")
        for target in self._targets:
            for account in pool.selector.ready(target, self._criteria, self._passed_over):
                if self._lease is None and (delay := pool.offer(account, asking=self)) is not None:
                    seconds = min(seconds, delay)
        return seconds

    def take(self) -> Lease | None:
        """Give the lease of the reserved slot, once; it is the caller's from here on."""
        lease, self._lease = self._lease, None
        return lease

    def close(self) -> None:
        """Leave the queue, and give back a slot that was not taken."""
        if self in self._pool.waiting:
            self._pool.waiting.remove(self)
        self._pool.offer_held()
        if (lease := self.take()) is not None:
            lease.not_sent()
            lease.end()
