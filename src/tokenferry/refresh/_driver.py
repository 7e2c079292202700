import logging
import threading
import time
from collections.abc import Callable, Generator
from functools import partial
from typing import Any, Final, Protocol

from msgspec.structs import replace

from tokenferry.errors import LockTimeout, StorageFailed, TokenferryError
from tokenferry.oauth import HttpOutcome, TokenRequest
from tokenferry.refresh import _effects as effects
from tokenferry.refresh._job import Result
from tokenferry.refresh._journal import Journal, RefreshAttempt, RefreshFailure
from tokenferry.stores import Document, Lock, Publishing, Replacing, Store

logger = logging.getLogger(__name__)

_LOCK_SLICE: Final = 0.5


class Sender(Protocol):
    """Sends a request to an authorization server and returns the `HttpOutcome`; raises nothing.

    It calls `sending` right before the first byte of the request leaves. If that raises, no byte leaves.
    """

    def __call__(self, request: TokenRequest, timeout: float, sending: Callable[[], None] = ..., /) -> HttpOutcome: ...


class Driver:
    """Carries out a flow's effects for one account; blocks.

    `refused` is the sha256 of the access token that the provider refused; failures are recorded with it.
    """

    def __init__(
        self,
        name: str,
        *,
        store: Store,
        journal: Journal,
        send: Sender,
        now: Callable[[], float],
        sleep: Callable[[float], bool],
        deliver: Callable[[Document], None],
        refused: str | None = None,
    ) -> None:
        self._name = name
        self._store = store
        self._journal = journal
        self._send = send
        self._now = now
        self._sleep = sleep
        self._deliver = deliver
        self._refused = refused
        self._lock: Lock | None = None
        self.lock_wait = 0.0
        """Seconds spent waiting for the lock."""

    def run(self, flow: Generator[effects.Effect, Any, Result]) -> Result:
        """Run the flow to its end and return its result; raises what the flow raises. Always releases the lock."""
        try:
            effect = next(flow)
            while True:
                try:
                    answer = self._perform(effect)
                except TokenferryError as fault:
                    effect = flow.throw(fault)
                else:
                    effect = flow.send(answer)
        except StopIteration as end:
            result: Result = end.value
            return result
        finally:
            self._release()

    def _perform(self, effect: effects.Effect) -> Any:  # noqa: C901, PLR0911, PLR0912  # one branch an effect
        match effect:
            case effects.Acquire(timeout):
                return self._acquire(timeout)
            case effects.Release():
                return self._release()
            case effects.Read():
                return self._store.read(self._name)
            case effects.ReadAttempt():
                return self._journal.attempt(self._name)
            case effects.ReadFailure():
                return self._journal.failure(self._name)
            case effects.RecordAttempt(attempt, replaces):
                return self._journal.begin(self._name, attempt, replaces=replaces)
            case effects.RecordAnswer(attempt, token):
                return self._journal.answer(self._name, attempt, token)
            case effects.Mark(attempt, state):
                return self._journal.mark(self._name, attempt, state)
            case effects.Close(attempt):
                return self._journal.close(self._name, attempt)
            case effects.RecordFailure(failure):
                return self._record_failure(failure)
            case effects.CheckReplaceable():
                return self._store.check_replaceable(self._name) if isinstance(self._store, Replacing) else None
            case effects.StillHeld():
                return self._lock is not None and self._lock.is_still_ours()
            case effects.Send(request, timeout, attempt):
                return self._send(request, timeout, partial(self._note_sending, attempt))
            case effects.Publish(expected, document, presented):
                if presented is not None and isinstance(self._store, Publishing):
                    return self._store.publish(self._name, expected, document, presented)
                return self._store.swap(self._name, expected, document)
            case effects.Deliver(document):
                return self._deliver(document)
            case effects.Sleep(seconds):
                return self._sleep(seconds)

    def _note_sending(self, attempt: RefreshAttempt | None) -> None:
        if attempt is not None:
            self._journal.sending(self._name, attempt, self._now())

    def _record_failure(self, failure: RefreshFailure | None) -> bool:
        try:
            self._journal.record_failure(self._name, failure and replace(failure, refused=self._refused))
        except StorageFailed as fault:
            logger.warning("account %s: %s", self._name, fault)
            return False
        return True

    def _acquire(self, timeout: float) -> str | None:
        """Wait in slices, so that a process can end without waiting for another one's refresh."""
        lock = self._store.lock(self._name)
        began = time.monotonic()
        left = timeout
        while True:
            try:
                lock.acquire(min(left, _LOCK_SLICE))
            except LockTimeout as fault:
                left = timeout - (time.monotonic() - began)
                if left <= 0 or not self._sleep(0):
                    return fault.holder
            else:
                self._lock = lock
                return None
            finally:
                self.lock_wait = time.monotonic() - began

    def _release(self) -> None:
        lock, self._lock = self._lock, None
        if lock is not None:
            lock.release()


def main_thread_lives(seconds: float, stopping: threading.Event) -> bool:
    """Wait; return False as soon as the process wants to end, which a waiting non-daemon thread would prevent."""
    main = threading.main_thread()
    if stopping.is_set():
        return False
    waited = 0.0
    while waited < seconds:
        step = min(0.1, seconds - waited)
        if stopping.wait(step) or not main.is_alive():
            return False
        waited += step
    return main.is_alive()
