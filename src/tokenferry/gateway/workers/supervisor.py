import contextlib
import logging
import os
import select
import signal
import sys
import time
from collections import Counter
from collections.abc import Callable, Iterator
from types import FrameType
from typing import Any, Final, NoReturn, TypeAlias

from msgspec import Struct

from tokenferry.errors import TokenferryError

logger = logging.getLogger(__name__)

SIG_FORCE: Final = signal.SIGUSR1  # two of the same signal may arrive as one
_ENDING: Final = (signal.SIGINT, signal.SIGTERM, signal.SIGHUP)
_STEADY: Final = 10.0
_FIRST_PAUSE: Final = 0.5
_DOUBLINGS: Final = 6
_READ: Final = 4096
_LOOK: Final = 0.5

_Handler: TypeAlias = Callable[[int, FrameType | None], Any] | int | signal.Handlers | None


class WorkerSlot(Struct, frozen=True):
    """A worker's number, from 1, and two pipes: `report` announces that it serves, the supervisor holds `lifeline`."""

    number: int
    lifeline: int
    """At its end, and thus readable, once the supervisor is gone."""
    report: int

    async def begin(self) -> None:
        """Announce to the supervisor that this worker serves."""
        os.write(self.report, bytes((self.number,)))


class ReloadHooks(Struct, frozen=True):
    """How a supervisor follows a configuration. `look` and `reread` give whether workers must read it again."""

    look: Callable[[], bool]
    """Called about twice a second."""
    reread: Callable[[], bool]
    """Called at a HUP."""
    is_end: Callable[[], bool] = lambda: False
    """Whether a HUP means the end."""


class Supervisor:
    """Runs `work`, which gives an exit code, in `count` forked processes until INT, TERM or HUP.

    The first signal is passed on as TERM, later ones as `SIG_FORCE`. With `following`, a HUP doesn't end the workers:
    it is passed on if the configuration can be read, and so is a change of the configuration. A worker that ends is
    replaced at once, or after a pause that doubles while it keeps ending within seconds. `ready` is called once all
    workers serve for the first time, `ending` before they are ended. Workers ignore INT, which a terminal sends to
    them as well. They also ignore HUP, but with `following` they start with the previous handler. The process must
    have no other threads.
    """

    def __init__(
        self,
        count: int,
        work: Callable[[WorkerSlot], int],
        *,
        ready: Callable[[], None],
        ending: Callable[[], None],
        tell: Callable[[str], None],
        following: ReloadHooks | None = None,
    ) -> None:
        self._count = count
        self._work = work
        self._ready = ready
        self._ending = ending
        self._tell = tell
        self._following = following
        self._hangup: _Handler = signal.SIG_IGN
        """The handler that a worker starts with."""
        self._look_again = 0.0
        self._running: dict[int, tuple[int, float]] = {}
        """The number and start time, by process id."""
        self._due: dict[int, float] = {}
        self._failures: Counter[int] = Counter()
        self._serving: set[int] = set()
        self._is_ready = self._has_failed = False
        self._heard: list[int] = []
        self._ended_by: signal.Signals | None = None

    def run(self) -> signal.Signals | None:
        """Give the signal that ended it. Raises `TokenferryError` if a worker ends before all serve."""
        with self._wakeups() as wakeup, _pipe() as lifeline, _pipe() as report:
            self._pipes = (*wakeup, *lifeline, *report)
            self._due = dict.fromkeys(range(1, self._count + 1), 0.0)
            while True:
                self._start_due(WorkerSlot(0, lifeline[0], report[1]))
                if not self._running and self._is_ending:
                    break
                self._wait(wakeup[0], report[0])
                self._obey()
                self._follow()
                self._reap()
        if self._has_failed:
            raise TokenferryError("a worker ended before it served; see the messages above")
        return self._ended_by

    @property
    def _is_ending(self) -> bool:
        return self._has_failed or self._ended_by is not None

    def _start_due(self, place: WorkerSlot) -> None:
        now = time.monotonic()
        for number in [number for number, when in self._due.items() if when <= now and not self._is_ending]:
            del self._due[number]
            pid = self._fork(WorkerSlot(number, place.lifeline, place.report))
            self._running[pid] = (number, now)

    def _fork(self, place: WorkerSlot) -> int:
        for stream in (sys.stdout, sys.stderr):
            stream.flush()
        # A signal between the fork and the worker's own handlers must not run those of the supervisor.
        before = signal.pthread_sigmask(signal.SIG_BLOCK, (*_ENDING, signal.SIGCHLD))
        pid = os.fork()
        if pid == 0:
            self._be_worker(place, before)
        signal.pthread_sigmask(signal.SIG_SETMASK, before)
        return pid

    def _be_worker(self, place: WorkerSlot, mask: set[signal.Signals | int]) -> NoReturn:
        code = 1
        try:
            signal.set_wakeup_fd(-1)
            signal.signal(signal.SIGINT, signal.SIG_IGN)
            signal.signal(signal.SIGHUP, self._hangup)
            for number in (signal.SIGTERM, signal.SIGCHLD, SIG_FORCE):
                signal.signal(number, signal.SIG_DFL)
            for descriptor in set(self._pipes) - {place.lifeline, place.report}:
                os.close(descriptor)
            signal.pthread_sigmask(signal.SIG_SETMASK, mask)
            code = self._work(place)
        except TokenferryError as fault:
            logger.error("worker %d: %s", place.number, fault)  # noqa: TRY400  # the message is enough
            code = fault.exit_code
        except BaseException:
            logger.exception("worker %d failed", place.number)
        finally:
            for stream in (sys.stdout, sys.stderr):
                with contextlib.suppress(OSError, ValueError):
                    stream.flush()
            os._exit(code)  # skip the supervisor's frames, which would remove its files

    def _wait(self, wakeup: int, report: int) -> None:
        """Wait for a signal, a worker's report, or the next start."""
        pause = self._pause()
        readable, _, _ = select.select([wakeup, report], [], [], pause)
        if wakeup in readable:
            os.read(wakeup, _READ)
        if report in readable:
            self._serving.update(os.read(report, _READ))
            if len(self._serving) == self._count and not self._is_ready and not self._is_ending:
                self._is_ready = True
                self._ready()

    def _pause(self) -> float | None:
        """Give the seconds until the next work; None for no limit."""
        if self._is_ending:
            return None
        due = [*self._due.values(), *([] if self._following is None else [self._look_again])]
        return max(0.0, min(due) - time.monotonic()) if due else None

    def _follow(self) -> None:
        """Check the configuration for changes, if it is due."""
        if self._following is not None and not self._is_ending and time.monotonic() >= self._look_again:
            if self._following.look():
                self._tell_workers(signal.SIGHUP)
            self._look_again = time.monotonic() + _LOOK

    def _obey(self) -> None:
        heard: list[int] = []
        while self._heard:
            heard.append(self._heard.pop(0))
        following = self._following
        if following is not None and signal.SIGHUP in heard and not following.is_end():
            heard = [number for number in heard if number != signal.SIGHUP]  # several ask for the same reload
            if not self._is_ending and following.reread():
                self._tell_workers(signal.SIGHUP)
        for number in heard:
            if self._ended_by is None:
                self._ended_by = signal.Signals(number)
                self._end_workers(signal.SIGTERM)
            else:
                self._end_workers(SIG_FORCE)

    def _end_workers(self, number: signal.Signals) -> None:
        self._ending()
        self._tell_workers(number)

    def _tell_workers(self, number: signal.Signals) -> None:
        for pid in self._running:
            with contextlib.suppress(ProcessLookupError):
                os.kill(pid, number)

    def _reap(self) -> None:
        for pid in list(self._running):
            ended, status = os.waitpid(pid, os.WNOHANG)
            if ended:
                number, started = self._running.pop(pid)
                self._replace(number, pid, os.waitstatus_to_exitcode(status), time.monotonic() - started)

    def _replace(self, number: int, pid: int, code: int, lived: float) -> None:
        if self._is_ending:
            if code:
                self._tell(f"worker {number} (process {pid}) {_ending(code)}")
            return
        if not self._is_ready:
            self._has_failed = True
            self._end_workers(signal.SIGTERM)
            return
        self._failures[number] = self._failures[number] + 1 if lived < _STEADY else 0
        doublings = min(self._failures[number] - 1, _DOUBLINGS)
        pause = _FIRST_PAUSE * 2**doublings if self._failures[number] else 0.0
        when = f"in {pause:g} s" if pause else "now"
        self._tell(f"worker {number} (process {pid}) {_ending(code)}; another takes its place {when}")
        self._due[number] = time.monotonic() + pause

    @contextlib.contextmanager
    def _wakeups(self) -> Iterator[tuple[int, int]]:
        """Receive signals within the block, and wake a `select`."""

        def hear(number: int, _frame: FrameType | None) -> None:
            self._heard.append(number)

        with _pipe() as (reader, writer):
            os.set_blocking(writer, False)
            taken = [number for number in _ENDING if signal.getsignal(number) is not signal.SIG_IGN]
            before = {number: signal.signal(number, hear) for number in taken}
            if self._following is not None:
                self._hangup = before.get(signal.SIGHUP, signal.SIG_IGN)
            before[signal.SIGCHLD] = signal.signal(signal.SIGCHLD, lambda *_: None)
            wakeup = signal.set_wakeup_fd(writer, warn_on_full_buffer=False)
            try:
                yield reader, writer
            finally:
                signal.set_wakeup_fd(wakeup)
                for number, handler in before.items():
                    signal.signal(number, handler or signal.SIG_DFL)


def _ending(code: int) -> str:
    if code == 0:
        return "ended in order"
    return f"was ended by {signal.Signals(-code).name}" if code < 0 else f"ended with exit code {code}"


@contextlib.contextmanager
def _pipe() -> Iterator[tuple[int, int]]:
    reader, writer = os.pipe()
    try:
        yield reader, writer
    finally:
        os.close(reader)
        os.close(writer)
