import logging
import threading
from collections import Counter
from collections.abc import Callable, Mapping
from datetime import UTC, datetime
from functools import partial
from types import MappingProxyType
from typing import Final

from msgspec import Struct, field
from msgspec.structs import replace

from tokenferry.background import Pending, after_fork_in_child
from tokenferry.errors import RefreshFailed, TokenferryError
from tokenferry.refresh._driver import Driver, Sender, main_thread_lives
from tokenferry.refresh._flow import refresh_flow
from tokenferry.refresh._job import FlowContext, RefreshRequest, Result
from tokenferry.refresh._journal import Journal, RefreshFailure
from tokenferry.refresh._send import send as send_over_network
from tokenferry.stores import Document, Store

logger = logging.getLogger(__name__)

_NOTABLE_WAIT: Final = 0.01


class RefreshStatistics(Struct, frozen=True):
    """What one process saw of one account's refreshes."""

    grants: int = 0
    adopted: int = 0
    """Flows that ended with a token renewed by another process."""
    failures: Mapping[str, int] = field(default_factory=lambda: MappingProxyType({}))
    """By the name of the error."""
    waiters: int = 0
    lock_waits: int = 0
    """Flows that found the lock taken."""
    lock_wait_seconds: float = 0.0
    last_error: str | None = None


class RefreshHistory(Struct, frozen=True):
    """What is on disk about one account's refreshes, of all processes. Times in seconds."""

    totals: Mapping[str, int] = field(default_factory=lambda: MappingProxyType({}))
    """How they ended: granted, failed, uncertain, needs-login."""
    last_failure: RefreshFailure | None = None
    """The last failure, None after a grant."""
    token_age: float | None = None


class Flight(Pending[Result]):
    """One running refresh of one account, and its waiters."""

    def __init__(self, job: RefreshRequest) -> None:
        super().__init__()
        self.job = job

    def deliver(self, document: Document) -> None:
        """Give the waiters this document while the flight goes on."""
        self.end(Result(document, granted=True), None)


class RefreshEngine:
    """Runs refreshes: at most one flight per account, each on a non-daemon thread of its own.

    Callers only wait for a flight's future, so a cancelled task, a closed event loop or an impatient thread can't
    interrupt a grant. `renewed` is called with the account's name when a flight has found or made a document, before
    any waiting caller continues; `settled` is called with it afterwards on the flight's thread, and may be slow.
    """

    def __init__(
        self,
        *,
        store: Store,
        journal: Journal,
        context: FlowContext,
        send: Sender = send_over_network,
        renewed: Callable[[str], None] = lambda _: None,
        settled: Callable[[str], None] = lambda _: None,
    ) -> None:
        self._store = store
        self._journal = journal
        self._context = context
        self._send = send
        self._renewed = renewed
        self._settled = settled
        self._settling = 0
        self._flights: dict[str, Flight] = {}
        self._guard = threading.Lock()
        self._idle = threading.Condition(self._guard)
        self._stopping = threading.Event()
        self._counts: dict[str, Counter[str]] = {}
        self._last_error: dict[str, str] = {}
        self._lock_waits: dict[str, tuple[int, float]] = {}
        after_fork_in_child(self._forget_flights)

    def start(self, job: RefreshRequest) -> Flight:
        """Join the account's flight, or begin one. Raises `RefreshFailed` when the process is ending."""
        with self._guard:
            flight = self._flights.get(job.name)
            if flight is not None:
                return flight
            if self._stopping.is_set() or not threading.main_thread().is_alive():
                raise RefreshFailed(f"account {job.name!r} is not refreshed while this process ends")
            flight = Flight(job)
            thread = threading.Thread(
                target=self._fly, args=(flight,), name=f"tokenferry-grant-{job.name}", daemon=False
            )
            self._flights[job.name] = flight
            try:
                thread.start()
            except RuntimeError:  # the interpreter is shutting down, or out of threads
                del self._flights[job.name]
                raise RefreshFailed(f"account {job.name!r}: no thread could be started for its refresh") from None
            return flight

    def _fly(self, flight: Flight) -> None:
        name = flight.job.name

        def deliver(document: Document) -> None:
            self._renewed(name)
            flight.deliver(document)

        driver = Driver(
            name,
            store=self._store,
            journal=self._journal,
            send=self._send,
            now=self._context.now,
            sleep=partial(main_thread_lives, stopping=self._stopping),
            deliver=deliver,
            refused=flight.job.refused,
        )
        result: Result | None = None
        fault: BaseException | None = None
        try:
            result = driver.run(refresh_flow(flight.job, self._context))
        except BaseException as caught:  # noqa: BLE001  # the waiters must get it
            fault = caught
        with self._guard:
            self._count(name, result, fault)
            if driver.lock_wait >= _NOTABLE_WAIT:
                count, seconds = self._lock_waits.get(name, (0, 0.0))
                self._lock_waits[name] = (count + 1, seconds + driver.lock_wait)
            if self._flights.get(name) is flight:
                del self._flights[name]
            self._settling += 1
        try:
            _log(name, result, fault)
            if result is not None:
                self._renewed(name)
            flight.end(result, fault)
            if result is not None:
                self._settled(name)
        finally:
            with self._guard:
                self._settling -= 1
                self._idle.notify_all()

    def _count(self, name: str, result: Result | None, fault: BaseException | None) -> None:
        counts = self._counts.setdefault(name, Counter())
        if result is not None:
            counts["grants" if result.granted else "adopted"] += 1
            return
        word, text = ("internal_error", type(fault).__name__)
        if isinstance(fault, TokenferryError):
            word, text = fault.word(), str(fault)
        counts[word] += 1
        self._last_error[name] = text

    def statistics(self, name: str) -> RefreshStatistics:
        with self._guard:
            counts = Counter(self._counts.get(name, Counter()))
            flight = self._flights.get(name)
            lock_waits, lock_wait_seconds = self._lock_waits.get(name, (0, 0.0))
            failures = {key: count for key, count in counts.items() if key not in {"grants", "adopted"}}
            return RefreshStatistics(
                grants=counts["grants"],
                adopted=counts["adopted"],
                failures=MappingProxyType(failures),
                waiters=flight.waiters if flight else 0,
                lock_waits=lock_waits,
                lock_wait_seconds=lock_wait_seconds,
                last_error=self._last_error.get(name),
            )

    def in_flight(self) -> tuple[str, ...]:
        """The accounts that are being refreshed, sorted."""
        with self._guard:
            return tuple(sorted(self._flights))

    def drain(self, timeout: float) -> bool:
        """Begin no further flight and wait up to `timeout` seconds for those under way; True if all have ended."""
        self._stopping.set()
        with self._guard:
            return self._idle.wait_for(lambda: not self._flights and not self._settling, timeout)

    def _forget_flights(self) -> None:
        """Reset in a forked child, where the parent's threads don't run and its attempts belong to the parent."""
        self._flights = {}
        self._settling = 0
        self._guard = threading.Lock()
        self._idle = threading.Condition(self._guard)
        self._context = replace(self._context, process=self._context.identify())
        was_stopping, self._stopping = self._stopping.is_set(), threading.Event()
        if was_stopping:
            self._stopping.set()


def _log(name: str, result: Result | None, fault: BaseException | None) -> None:
    """One line for each flight that asked the provider, or failed."""
    if isinstance(fault, TokenferryError):
        logger.info("account %s was not refreshed: %s", name, fault)
    elif fault is not None:
        kind = type(fault).__name__
        logger.error("account %s: the refresh failed with %s, which is a defect in tokenferry", name, kind)
    elif result is not None and result.granted:
        token = result.document.credential
        end = token.expires_at and f", until {datetime.fromtimestamp(token.expires_at, UTC):%Y-%m-%d %H:%M:%S} UTC"
        logger.info("account %s was refreshed; its access token is %s%s", name, token.secret.fingerprint, end or "")
