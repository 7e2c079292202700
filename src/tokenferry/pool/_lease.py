"""A request's slot at an account, and its ticket while it waits for one."""

from collections.abc import Callable, Sequence
from collections.abc import Set as AbstractSet
from typing import TYPE_CHECKING

from tokenferry.pool._account import Criteria, PoolAccount, Target
from tokenferry.pool._selection import Selection
from tokenferry.rates import Permit

if TYPE_CHECKING:
    from tokenferry.pool._pool import Pool


class Lease(Permit):
    """A slot of an account, with the tokens expected and the recovery probe. Only the first `end` counts."""

    __slots__ = ("_pool", "is_probing", "selection", "target")

    def __init__(self, pool: "Pool", target: Target, selection: Selection, tokens: int) -> None:
        super().__init__(pool.capacity.limiters(selection.account), pool.monotonic(), tokens)
        self.target = target
        self.selection = selection
        self._pool = pool
        self.is_probing = selection.probed is not None

    def reuse(self) -> float:
        """Use the slot for a further attempt. Give the seconds until the rate allows it."""
        return self.renew(self._pool.monotonic()) if self._pool.capacity.is_capped else 0.0

    def not_sent(self) -> None:
        """Take back an attempt that sent nothing: the account's rate does not count it."""
        if self._pool.capacity.is_capped:
            self.return_request(self._pool.monotonic())

    def end_probe(self, *, has_failed: bool | None) -> None:
        """End the recovery probe, if there is one. `has_failed` is None for an unknown result."""
        if self.is_probing:
            self.is_probing = False
            self._pool.selector.end_probe(self.selection, has_failed=has_failed)

    def end(self, used: int | None = 0) -> None:
        """Give the slot to the next request. `used` are the tokens used, None for the expected number."""
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
    """Called when a slot is reserved or its turn is next. It must not continue the request itself: another request's
    lease is just being ended."""

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
        """Give the target for which this account may serve the request; None if it may not."""
        for target in self._targets:
            selection = self._pool.selector.select_only(target, self._criteria, self._passed_over, account)
            if selection is not None:
                return target, selection
        return None

    def grant(self, target: Target, selection: Selection) -> None:
        """Reserve a slot for this request and remove it from the queue."""
        self._pool.waiting.remove(self)
        self._lease = Lease(self._pool, target, selection, self.tokens)

    def look(self) -> float:
        """Offer every account that may serve it to the waiting requests. Give the seconds until its turn.

        They are infinite if it is not next at any account.
        """
        pool, seconds = self._pool, float("inf")
        for target in self._targets:
            for account in pool.selector.ready(target, self._criteria, self._passed_over):
                if self._lease is None and (delay := pool.offer(account, asking=self)) is not None:
                    seconds = min(seconds, delay)
        return seconds

    def take(self) -> Lease | None:
        """Give the lease of the reserved slot, once. The caller owns it."""
        lease, self._lease = self._lease, None
        return lease

    def close(self) -> None:
        """Leave the queue, and return a slot that was not taken."""
        if self in self._pool.waiting:
            self._pool.waiting.remove(self)
        self._pool.offer_held()
        if (lease := self.take()) is not None:
            lease.not_sent()
            lease.end()
