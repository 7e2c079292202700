"""Estimate what a request will cost, from the last requests of its session, key and model."""

from bisect import insort
from collections import deque
from typing import Final, NamedTuple, TypeVar

from msgspec import Struct

from tokenferry.budgets._budget import Spending
from tokenferry.prices import UNKNOWN, Price, TokenCounts

_FIRST_OUTPUT: Final = 4096
_BYTES_A_TOKEN: Final = 4
_RECENT: Final = 200
_NINETY_FIFTH: Final = 0.95
_MOST_KNOWN: Final = 10_000

_Key = TypeVar("_Key")
_Value = TypeVar("_Value")


class RequestSize(Struct, frozen=True):
    """The facts of a request that are known before it is sent."""

    key_id: str
    model: str
    """As the client names it."""
    session: str
    body: int
    """In bytes."""
    max_tokens: int | None


class ModelPrice(NamedTuple):
    """The price of a model's last request."""

    price: Price
    is_plan: bool
    """Whether a subscription covered it."""


class _Outputs:
    """The last output counts of a key and model, by time and by size."""

    __slots__ = ("recent", "sizes")

    def __init__(self) -> None:
        self.recent: deque[int] = deque()
        self.sizes: list[int] = []

    def add(self, output: int) -> int:
        """Add a count, and return the 95th percentile."""
        if len(self.recent) == _RECENT:
            self.sizes.remove(self.recent.popleft())
        self.recent.append(output)
        insort(self.sizes, output)
        return self.sizes[int(_NINETY_FIFTH * (len(self.sizes) - 1))]


class UsageEstimates:
    """Learns from written requests on the ledger's thread, and estimates new ones on the event loop.

    Each table changes one entry at a time, so a reader needs no lock. The cost of a session's next request is computed
    in advance, because most requests belong to a session.
    """

    def __init__(self) -> None:
        self.is_asked = False
        """Whether an estimate was ever requested, so that learning is worth its cost."""
        self._prices: dict[str, ModelPrice] = {}
        self._outputs: dict[tuple[str, str], _Outputs] = {}
        self._likely: dict[tuple[str, str], int] = {}
        self._next: dict[tuple[str, str], tuple[int, TokenCounts, Spending]] = {}
        """By session and model: the output, all counts, and what they cost."""

    def learn(self, size: RequestSize, counts: TokenCounts, price: ModelPrice) -> None:
        """Learn what a request used. One that used nothing is ignored."""
        if not any(counts):
            return
        _put(self._prices, size.model, price)
        key = (size.key_id, size.model)
        if counts.output:
            outputs = self._outputs.get(key)
            if outputs is None:
                _put(self._outputs, key, outputs := _Outputs())
            _put(self._likely, key, outputs.add(counts.output))
        if size.session:
            output = self._likely.get(key, _FIRST_OUTPUT)
            again = TokenCounts(counts.input, output, *counts[2:5])
            _put(self._next, (size.session, size.model), (output, again, self.spending(size.model, again)))

    def estimate(self, size: RequestSize) -> Spending:
        """Estimate its cost: the input of its session's last request, or its bytes, and an output like recent ones."""
        self.is_asked = True
        model, most = size.model, size.max_tokens
        known = self._next.get((size.session, model))
        if known is not None:
            output, counts, spending = known
            if most is None or most >= output:
                return spending
            return self.spending(model, counts._replace(output=most))
        output = self._likely.get((size.key_id, model), _FIRST_OUTPUT)
        if most is not None and most < output:
            output = most
        return self.spending(model, TokenCounts(size.body // _BYTES_A_TOKEN, output))

    def spending(self, model: str, counts: TokenCounts) -> Spending:
        """The cost of these counts at the model's last price. A model that was never seen has an unknown price."""
        known = self._prices.get(model)
        plain, output, _, five, hour, _ = counts
        cost = (UNKNOWN if known is None else known.price).cost(counts)
        billed = 0 if known is not None and known.is_plan else cost
        return Spending(billed, cost, plain + output + five + hour)


def _put(table: dict[_Key, _Value], key: _Key, value: _Value) -> None:
    """Set it; a full table drops its oldest entry."""
    if key not in table and len(table) >= _MOST_KNOWN:
        del table[next(iter(table))]
    table[key] = value
