import time
from collections.abc import Callable, Mapping
from typing import Final

from msgspec.structs import replace

from tokenferry.credentials import OAuthToken
from tokenferry.errors import Conflict, RefreshBusy, StorageFailed
from tokenferry.fleet._heartbeat import Heartbeat
from tokenferry.fleet._spill import Spill
from tokenferry.fleet._tables import Tables
from tokenferry.refresh import AttemptState, RefreshAttempt, RefreshFailure

_START_WITHIN: Final = 10.0
"""Seconds from the record of an attempt to its first byte. The hold-off includes them."""


class FleetJournal:
    """Attempts in rows that every host sees; answers stay on this host's disk until they are published.

    An attempt counts as sent from its record on. Only its own host knows whether a byte was sent, and the answer. An
    attempt of another host whose heartbeat has ended is `orphaned`: the host may be gone, or cut off for a while.
    """

    def __init__(
        self,
        tables: Tables,
        spill: Spill,
        heartbeat: Heartbeat,
        host: str,
        *,
        monotonic: Callable[[], float] = time.monotonic,
    ) -> None:
        self._tables = tables
        self._spill = spill
        self._heartbeat = heartbeat
        self._host = host
        self._monotonic = monotonic
        self._recorded_at: dict[str, float] = {}

    def attempt(self, name: str) -> RefreshAttempt | None:
        record = self._tables.attempt(name)
        if record is None:
            return None
        attempt = record.attempt
        if attempt.process.instance == self._host:
            noted = self._spill.find(name, attempt.id)
            if noted is None:
                return attempt
            state = attempt.state
            if state == "open" and noted.state in {"begun", "closed"}:
                state = "begun" if noted.state == "begun" or noted.tries == 1 else "closed"
            return replace(attempt, state=state, at=noted.at, answer=noted.answer)
        if record.is_forgotten:  # without an instance it is judged by its boot id, which is none of this machine's
            return replace(attempt, process=replace(attempt.process, instance="", boot="forgotten"))
        if record.is_lapsed and attempt.state == "open":
            return replace(attempt, state="orphaned")
        return attempt

    def begin(self, name: str, attempt: RefreshAttempt, *, replaces: str | None = None) -> None:
        """Record the attempt on this host's disk, then in the database.

        Raises `Conflict`, `RefreshBusy` in the hold-off after a restart or failover of the database, `StorageFailed`,
        and the errors of writing to the disk; then nothing may be sent.
        """
        self._spill.begin(name, attempt)
        self._recorded_at[name] = self._monotonic()
        try:
            self._tables.begin(name, replace(attempt, state="open"), replaces)
        except (Conflict, RefreshBusy):
            self._spill.drop(name, attempt.id)
            raise
        except StorageFailed:  # it may be on record or come to it
            self._heartbeat.withdraw(name, attempt)
            raise
        self._heartbeat.keep(attempt.id)

    def sending(self, name: str, attempt: RefreshAttempt, at: float) -> None:
        """Note that bytes may be sent from now on. Raises `StorageFailed` if the record is too old for that."""
        if self._monotonic() - self._recorded_at[name] > _START_WITHIN:
            raise StorageFailed(
                f"account {name!r}: nothing was sent, for more than {_START_WITHIN:.0f} s passed since the attempt was "
                "recorded; try again"
            )
        self._spill.sending(name, attempt, at)

    def answer(self, name: str, attempt: RefreshAttempt, token: OAuthToken) -> None:
        self._spill.answer(name, attempt, token)

    def mark(self, name: str, attempt: RefreshAttempt, state: AttemptState) -> None:
        if self._spill.find(name, attempt.id) is not None:
            self._spill.mark(name, attempt, state)
        if state != "answered":
            self._heartbeat.drop(attempt.id)
        self._tables.mark(name, attempt.id, state)

    def close(self, name: str, attempt: RefreshAttempt) -> None:
        """Remove the attempt.

        An answer or denial stays on this host's disk, since a failover may lose what followed.
        """
        self._heartbeat.drop(attempt.id)
        noted = self._spill.find(name, attempt.id)
        is_over = noted is not None and noted.answer is None and noted.state != "denied"
        if is_over:  # first, for the database may be away
            self._spill.mark(name, attempt, "closed")
        self._tables.close(name, attempt.id)
        if is_over:
            self._spill.drop(name, attempt.id)

    def failure(self, name: str) -> RefreshFailure | None:
        return self._tables.failure(name)

    def record_failure(self, name: str, failure: RefreshFailure | None) -> None:
        self._tables.record_failure(name, failure)

    def totals(self, name: str) -> Mapping[str, int]:
        return self._tables.totals(name)

    def forget(self, name: str) -> None:
        self._tables.forget(name)
        self._spill.forget(name)
