import threading

import pytest

from tokenferry.refresh._driver import main_thread_lives


class Stopping(threading.Event):
    """Set in the wait of this number."""

    def __init__(self, number: int) -> None:
        super().__init__()
        self.left = number
        self.seconds = 0.0

    def wait(self, timeout: float | None = None) -> bool:
        self.left -= 1
        self.seconds += timeout or 0.0
        return self.left <= 0


@pytest.mark.parametrize("seconds", [0, 0.05, 3600])
def test_a_process_that_ends_waits_for_nothing(seconds: float) -> None:
    stopping = threading.Event()
    stopping.set()
    assert main_thread_lives(seconds, stopping) is False


def test_a_wait_ends_as_soon_as_its_process_does() -> None:
    assert main_thread_lives(3600, Stopping(3)) is False


def test_a_wait_lasts_as_long_as_asked() -> None:
    stopping = Stopping(1000)
    assert main_thread_lives(0.95, stopping) is True
    assert stopping.left == 990, "it looks ten times a second"
    assert stopping.seconds == pytest.approx(0.95)
