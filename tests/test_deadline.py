"""Nothing that a test waits for can hang the run."""

import os
import signal
import threading

import pytest

from deadline import deadline


def test_a_read_that_gets_nothing_fails_with_what_was_seen() -> None:
    reading, writing = os.pipe()
    try:
        with pytest.raises(pytest.fail.Exception, match="a prompt"), deadline(0.05, lambda: "a prompt"):
            os.read(reading, 1)
    finally:
        os.close(reading)
        os.close(writing)


def test_a_lock_that_is_never_released_fails() -> None:
    lock = threading.Lock()
    with lock, pytest.raises(pytest.fail.Exception), deadline(0.05):
        lock.acquire()  # the second time


def test_one_inside_another_hands_the_clock_back() -> None:
    with deadline(100):
        with deadline(50):
            assert signal.getitimer(signal.ITIMER_REAL)[0] <= 50
        assert 50 < signal.getitimer(signal.ITIMER_REAL)[0] <= 100


def test_every_test_has_one() -> None:
    assert 0 < signal.getitimer(signal.ITIMER_REAL)[0] <= 3000
