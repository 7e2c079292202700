import gc
import os
import threading
from weakref import ref

import pytest

from tokenferry.background import PeriodicThread
from tokenferry.errors import StorageFailed

PATIENCE = 20.0
TICK = 0.001


class Work:
    """Takes what is waiting, and says so."""

    def __init__(self) -> None:
        self.waiting: list[int] = []
        self.taken: list[int] = []
        self.threads: set[str] = set()
        self.runs = 0
        self.has_run = threading.Semaphore(0)

    def __call__(self) -> None:
        self.threads.add(threading.current_thread().name)
        self.runs += 1
        while self.waiting:
            self.taken.append(self.waiting.pop(0))
        self.has_run.release()

    def wait_for_runs(self, number: int) -> None:
        for _ in range(number):
            assert self.has_run.acquire(timeout=PATIENCE)


def test_it_works_every_interval_on_one_daemon_thread_until_it_is_stopped() -> None:
    work = Work()
    with PeriodicThread("there", work, TICK) as thread:
        work.wait_for_runs(3)
        assert not thread.is_current
        (running,) = (one for one in threading.enumerate() if one.name == "there")
        assert running.daemon
    assert not running.is_alive()
    assert work.threads == {"there"}


def test_waking_it_takes_no_interval() -> None:
    work = Work()
    with PeriodicThread("there", work, 3600.0) as thread:
        thread.wake()
        work.wait_for_runs(1)
        thread.wake()
        work.wait_for_runs(1)
    assert work.runs == 2


def test_a_wake_before_it_is_started_counts() -> None:
    work = Work()
    thread = PeriodicThread("there", work, None)
    thread.wake()
    with thread:
        work.wait_for_runs(1)


def test_the_first_wake_counts_at_once_and_those_that_follow_after_the_pause() -> None:
    work = Work()
    with PeriodicThread("there", work, None, pause=3600.0, at_end=True) as thread:
        work.waiting.append(1)
        thread.wake()
        work.wait_for_runs(1)
        for number in range(2, 100):
            work.waiting.append(number)
            thread.wake()
        assert work.taken == [1]
    assert work.taken == list(range(1, 100))
    assert (work.threads, work.runs) == ({"there"}, 2)


def test_nothing_is_lost_however_wakes_and_calls_interleave() -> None:
    work, numbers = Work(), iter(range(4000))

    def add() -> None:
        for number in numbers:
            work.waiting.append(number)
            thread.wake()

    with PeriodicThread("there", work, None, at_end=True) as thread:
        adders = [threading.Thread(target=add) for _ in range(4)]
        for adder in adders:
            adder.start()
        for adder in adders:
            adder.join(PATIENCE)
    assert sorted(work.taken) == list(range(4000))


def test_the_last_call_takes_what_did_not_wake_it() -> None:
    work = Work()
    with PeriodicThread("there", work, None, at_end=True):
        work.waiting.append(1)
    assert (work.taken, work.runs) == ([1], 1)


def test_the_last_call_takes_what_came_in_during_the_call_that_stop_waited_for() -> None:
    work = Work()
    is_working, go_on = threading.Semaphore(0), threading.Semaphore(0)

    def dawdle() -> None:
        work()
        if work.runs == 1:
            is_working.release()
            assert go_on.acquire(timeout=PATIENCE)

    thread = PeriodicThread("there", dawdle, None, at_end=True)
    stopping = thread._stopping
    thread.start()
    thread.wake()
    assert is_working.acquire(timeout=PATIENCE)
    work.waiting.append(1)
    thread.wake()
    end = threading.Thread(target=thread.stop)
    end.start()
    assert stopping.wait(PATIENCE)
    go_on.release()
    end.join(PATIENCE)
    assert work.taken == [1]


def test_stop_waits_no_longer_than_it_is_allowed_to() -> None:
    is_working, go_on = threading.Event(), threading.Event()

    def hang() -> None:
        is_working.set()
        go_on.wait(PATIENCE)

    thread = PeriodicThread("there", hang, TICK)
    thread.start()
    assert is_working.wait(PATIENCE)
    thread.stop(TICK)
    (running,) = (one for one in threading.enumerate() if one.name == "there")
    go_on.set()
    running.join(PATIENCE)
    assert not running.is_alive()


def test_it_may_be_stopped_by_its_own_work() -> None:
    has_stopped = threading.Event()

    def work() -> None:
        thread.stop()
        has_stopped.set()

    thread = PeriodicThread("there", work, TICK)
    thread.stop()
    thread.start()
    assert has_stopped.wait(PATIENCE)


def test_it_may_be_started_again_and_starts_once() -> None:
    work, begun = Work(), Work()
    thread = PeriodicThread("there", work, None)
    for _ in range(2):
        thread.start(begun)
        thread.start(begun)
        thread.wake()
        work.wait_for_runs(1)
        thread.stop()
    assert (work.runs, begun.runs) == (2, 2)


def test_faults_are_logged_once_until_a_call_succeeds(caplog: pytest.LogCaptureFixture) -> None:
    work = Work()
    outcomes = [ValueError("odd"), ValueError("odd"), None, StorageFailed("the disk is full"), StorageFailed("again")]

    def fail() -> None:
        fault = outcomes.pop(0)
        work()
        if fault is not None:
            raise fault

    with PeriodicThread("there", fail, None, trouble="the log is lost") as thread:
        for _ in range(len(outcomes)):
            thread.wake()
            work.wait_for_runs(1)
    assert [(one.levelname, one.getMessage()) for one in caplog.records] == [
        ("ERROR", "the log is lost"),
        ("WARNING", "the log is lost: the disk is full"),
    ]


def test_a_weak_one_ends_with_the_object_of_its_work() -> None:
    class Owner:
        def __init__(self) -> None:
            self.has_run = threading.Event()
            self.thread = PeriodicThread("there", self.work, TICK, weak=True)
            self.thread.start()

        def work(self) -> None:
            self.has_run.set()

    owner = Owner()
    assert owner.has_run.wait(PATIENCE)
    (running,) = (one for one in threading.enumerate() if one.name == "there")
    reference = ref(owner)
    del owner
    for _ in range(1000):  # the thread holds it while it works
        gc.collect()
        if reference() is None:
            break
        running.join(TICK)
    running.join(PATIENCE)
    assert reference() is None
    assert not running.is_alive()


@pytest.mark.filterwarnings("ignore:.*fork:DeprecationWarning")
def test_a_forked_child_has_no_thread_until_it_starts_one() -> None:
    work = Work()
    with PeriodicThread("there", work, None) as thread:
        if (child := os.fork()) == 0:
            thread.wake()
            is_idle = not work.has_run.acquire(timeout=0.01)
            thread.start()
            os._exit(7 if is_idle and work.has_run.acquire(timeout=PATIENCE) else 1)
        assert os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) == 7
        thread.wake()
        work.wait_for_runs(1)
