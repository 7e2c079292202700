"""How each request came to its account, written away from the event loop for `tokenferry why`."""

import logging
import threading
from collections import deque
from collections.abc import Callable, Iterable
from queue import Empty, SimpleQueue
from types import TracebackType
from typing import Any, Final, Self

from tokenferry.errors import TokenferryError
from tokenferry.gateway._record import Record
from tokenferry.state import Decision

logger = logging.getLogger(__name__)

_LIMIT: Final = 10_000
_INTERVAL: Final = 0.5
_ORDINARY: Final = 250
_CLOSE_SECONDS: Final = 5.0


class DecisionLog:
    """Hands the decisions of requests that have ended to `write`, in batches, on a thread of its own.

    Of what is waiting 10,000 are kept, and later ones dropped; so is a batch that can't be written. Of very many in
    one batch, `ordinary` are written of those where nothing is to be explained. As a context manager it writes within
    the block, and at its end what is left.
    """

    def __init__(
        self,
        write: Callable[[Iterable[Decision]], None],
        *,
        limit: int = _LIMIT,
        interval: float = _INTERVAL,
        ordinary: int = _ORDINARY,
    ) -> None:
        self._write = write
        self._limit = limit
        self._interval = interval
        self._ordinary = ordinary
        self._waiting: SimpleQueue[Record | None] = SimpleQueue()
        self._closing = threading.Event()
        self._thread = threading.Thread(target=self._run, name="tokenferry-decision-log", daemon=True)
        self._has_failed = False

    def __enter__(self) -> Self:
        self._thread.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, fault: BaseException | None, traceback: TracebackType | None
    ) -> None:
        self._closing.set()
        self._waiting.put(None)
        self._thread.join(_CLOSE_SECONDS)

    def add(self, record: Record) -> None:
        """Have it written soon. Costs no lock and no I/O; the record must not change any more."""
        if self._waiting.qsize() < self._limit:
            self._waiting.put(record)

    def _run(self) -> None:
        is_over = False
        while not is_over:
            batch = [self._waiting.get()]
            self._closing.wait(self._interval)
            batch += self._gathered()
            is_over = None in batch
            self._write_batch([one for one in batch if one is not None])

    def _gathered(self) -> list[Record | None]:
        gathered: list[Record | None] = []
        try:
            while len(gathered) < self._limit:
                gathered.append(self._waiting.get_nowait())
        except Empty:
            pass
        return gathered

    def _write_batch(self, batch: list[Record]) -> None:
        if not batch:
            return
        try:
            self._write(map(decision_of, self._worthy(batch)))
        except TokenferryError as fault:
            if not self._has_failed:
                logger.warning("decisions are not written down: %s", fault)
            self._has_failed = True
        else:
            self._has_failed = False

    def _worthy(self, batch: list[Record]) -> list[Record]:
        if len(batch) <= self._ordinary:
            return batch
        # The database keeps so few that at such a rate they'd all be gone within seconds, those that matter, too.
        latest = deque((record.request_id for record in batch if _is_ordinary(record)), self._ordinary)
        kept = frozenset(latest)
        return [record for record in batch if record.request_id in kept or not _is_ordinary(record)]


def _is_ordinary(record: Record) -> bool:
    """Whether the first account that was asked gave a good answer at once."""
    decision = record.decision
    if decision is not None and decision.story is not None:
        return record.error is None and decision.story.is_ordinary
    return record.error is None and (decision is None or not (decision.passed_over or len(decision.attempts) > 1))


def decision_of(record: Record) -> Decision:
    """The record as it is kept. Times in seconds, milliseconds where the name says so."""
    content: dict[str, Any] = {
        "client": record.client,
        "method": record.method,
        "path": record.path,
        "model": record.model,
        "provider": record.provider,
        "account": record.account,
        "session": record.session,
        "status": record.status,
        "error": record.error,
        "ms": round(record.duration * 1000),
    }
    if (decision := record.decision) is not None:
        if (choice := decision.choice) is not None:
            content["rule"] = choice.rule
            content["candidates"] = [account.name for account in choice.accounts]
        content["passed_over"] = [{"account": account, "why": why} for account, why in decision.passed_over]
        content["attempts"] = [
            {"account": one.account, "fingerprint": one.fingerprint, "status": one.status} for one in decision.attempts
        ]
        if decision.story is not None:
            content |= decision.story.to_json()
        content["message"] = decision.message
    return Decision(record.request_id, int(record.at), content)
