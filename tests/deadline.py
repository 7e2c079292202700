"""A bound for whatever a test waits for: what never comes fails the test instead of hanging the run."""

import contextlib
import signal
import threading
from collections.abc import Callable, Iterator
from types import FrameType
from typing import Final

import pytest

PHASE: Final = 600.0
"""Seconds that a test's set-up, call and tear-down may each take; the slowest takes 120, on a busy machine."""


@contextlib.contextmanager
def deadline(seconds: float, seen: Callable[[], str] = lambda: "") -> Iterator[None]:
    """Fail the test in the block that takes longer, with what was seen until then.

    A signal interrupts reads, joins and waits alike. It comes again, for a block that swallows the first.
    """
    if threading.current_thread() is not threading.main_thread():
        yield
        return

    def fail(_number: int, _frame: FrameType | None) -> None:
        pytest.fail(f"it went on for more than {seconds:g} s; seen until then: {seen()!r}")

    before = signal.signal(signal.SIGALRM, fail)
    outer = signal.setitimer(signal.ITIMER_REAL, seconds, seconds)
    try:
        yield
    finally:
        signal.signal(signal.SIGALRM, before)
        signal.setitimer(signal.ITIMER_REAL, *outer)
