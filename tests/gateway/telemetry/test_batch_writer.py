import threading

import pytest

from tokenferry.gateway.telemetry.batch_writer import BatchWriter

PATIENCE = 20.0


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


def test_the_first_thing_is_done_at_once_and_what_follows_at_the_end_of_the_interval() -> None:
    work = Work()
    with BatchWriter("there", work, 3600.0) as background:
        work.waiting.append(1)
        background.call()
        assert work.has_run.acquire(timeout=PATIENCE)
        for number in range(2, 100):
            work.waiting.append(number)
            background.call()
        assert work.taken == [1]
        assert not background.is_current
    assert work.taken == list(range(1, 100))
    assert (work.threads, work.runs) == ({"there"}, 2)


def test_nothing_is_lost_however_calls_and_rounds_meet() -> None:
    work, numbers = Work(), iter(range(4000))

    def add() -> None:
        for number in numbers:
            work.waiting.append(number)
            background.call()

    with BatchWriter("there", work, 0.0) as background:
        adders = [threading.Thread(target=add) for _ in range(4)]
        for adder in adders:
            adder.start()
        for adder in adders:
            adder.join(PATIENCE)
    assert sorted(work.taken) == list(range(4000))


def test_what_nobody_called_for_is_done_at_the_end() -> None:
    work = Work()
    with BatchWriter("there", work, 0.0):
        assert work.runs == 0
        work.waiting.append(1)
    assert work.taken == [1]


def test_what_comes_while_the_end_overtakes_a_round_is_done() -> None:
    work = Work()
    is_asked, go_on = threading.Semaphore(0), threading.Semaphore(0)

    def dawdle() -> None:
        work()
        if work.runs == 2:
            is_asked.release()
            assert go_on.acquire(timeout=PATIENCE)

    background = BatchWriter("there", dawdle, 0.0)
    background.__enter__()
    background.call()
    assert is_asked.acquire(timeout=PATIENCE)
    work.waiting.append(1)
    background.call()
    end = threading.Thread(target=background.__exit__, args=(None, None, None))
    end.start()
    assert background._closing.wait(PATIENCE)
    go_on.release()
    end.join(PATIENCE)
    assert work.taken == [1]


def test_work_that_goes_wrong_is_told_and_goes_on(caplog: pytest.LogCaptureFixture) -> None:
    work = Work()

    def broken() -> None:
        work()
        if work.taken == [1]:
            raise RuntimeError

    with BatchWriter("there", broken, 0.0) as background:
        work.waiting.append(1)
        background.call()
        assert work.has_run.acquire(timeout=PATIENCE)
        work.waiting.append(2)
        background.call()
    assert work.taken == [1, 2]
    assert "what there was to write is lost" in caplog.text
