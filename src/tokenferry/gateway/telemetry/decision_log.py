"""Writes how each request got its account, for `tokenferry explain request`, outside the event loop."""

from collections import deque
from collections.abc import Callable, Iterable, Iterator
from operator import itemgetter
from typing import Any, Final, TypeAlias

from tokenferry.background import PeriodicThread
from tokenferry.budgets import Reservation
from tokenferry.gateway.telemetry.record import RequestRecord
from tokenferry.routing import loggable_name
from tokenferry.state import Decision

_Numbered: TypeAlias = tuple[int, RequestRecord]

_LIMIT: Final = 10_000
_INTERVAL: Final = 0.5
_ORDINARY: Final = 100


class DecisionLog(PeriodicThread):
    """Passes the decisions of ended requests to `write`, in batches, on its own thread.

    Up to 10,000 wait; further ones are dropped, as is a batch that can't be written. Of ordinary requests, where
    nothing needs an explanation, only the latest `ordinary` of a batch are written. As a context manager it writes
    within the block, and the rest at the end.
    """

    def __init__(
        self,
        write: Callable[[Iterable[Decision]], None],
        *,
        limit: int = _LIMIT,
        interval: float = _INTERVAL,
        ordinary: int = _ORDINARY,
    ) -> None:
        lost = "decisions are not written down"
        super().__init__("tokenferry-decision-log", self._write_batch, None, pause=interval, at_end=True, trouble=lost)
        self._write = write
        self._limit = limit
        # The database keeps few: at a high rate, ordinary requests would displace the others within seconds.
        self._ordinary: deque[_Numbered] = deque(maxlen=ordinary)
        self._others: deque[_Numbered] = deque()
        self._count = 0

    def add(self, *records: RequestRecord) -> None:
        """Write them soon. Takes no lock and does no I/O. The records must not change later."""
        for record in records:
            self._count += 1
            if _is_ordinary(record):
                self._ordinary.append((self._count, record))
            elif len(self._others) < self._limit:
                self._others.append((self._count, record))
        self.wake()

    def _write_batch(self) -> None:
        taken = sorted((*_taken(self._ordinary), *_taken(self._others)), key=itemgetter(0))
        if taken:
            self._write(decision_of(record) for _, record in taken)


def _taken(waiting: deque[_Numbered]) -> Iterator[_Numbered]:
    """Take out what is there. More may be added at the same time."""
    for _ in range(len(waiting)):
        yield waiting.popleft()


def _is_ordinary(record: RequestRecord) -> bool:
    """Whether the first account that was asked gave a good answer at once."""
    decision = record.decision
    if record.error is not None or decision is None:
        return False
    return decision.trace is None or decision.trace.is_ordinary


def decision_of(record: RequestRecord) -> Decision:
    """Give the record as it is stored. Times are in seconds, or in milliseconds where the name is `ms`."""
    content: dict[str, Any] = {
        "client": record.client,
        "method": record.method,
        "path": record.path,
        "model": record.model,
        "upstream_model": record.upstream_model,
        "provider": record.provider,
        "account": record.account,
        "session": record.session,
        "status": record.status,
        "error": record.error,
        "ms": round(record.duration * 1000),
    }
    if record.translated is not None:
        content |= {"translated": record.translated, "left_out": list(record.left_out)}
    if (decision := record.decision) is not None:
        content |= {"rule": decision.rule, "passed_over": [], "attempts": []}
        if decision.trace is not None:
            content |= _harmless(decision.trace.to_json())
        content["message"] = decision.message
        if decision.budgets is not None:
            content["budgets"] = [*_shares(decision.budgets, record.client or "")]
    return Decision(record.request_id, int(record.at), content)


def _shares(reservation: Reservation, key_name: str) -> Iterator[dict[str, Any]]:
    """Give what the request reserved and used of each budget, in micro-dollars or tokens."""
    used = reservation.used or reservation.amounts
    for counter, reserved, amount in zip(reservation.counters, reservation.amounts, used, strict=True):
        budget = counter.budget
        yield {"subject": budget.whose(key_name), "limit": str(budget.limit), "reserved": reserved, "used": amount}


def _harmless(decision: dict[str, Any]) -> dict[str, Any]:
    """Remove model names that aren't loggable, since a client may have written anything there."""
    for part in ("hops", "steps"):
        for one in decision.get(part, ()):
            if (model := one.get("model")) is not None and loggable_name(model) is None:
                one["model"] = None
    return decision
