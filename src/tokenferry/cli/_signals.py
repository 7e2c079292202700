import contextlib
import os
import select
import signal
import threading
from collections.abc import Iterator
from types import FrameType
from typing import Final

_NAMES: Final = ("SIGINT", "SIGTERM", "SIGHUP")


class Ended(BaseException):
    """The process is asked to end. Raised in the main thread instead of dying, so that a refresh can finish."""

    def __init__(self, number: int) -> None:
        super().__init__(f"signal {number}")
        self.exit_code = 128 + number


@contextlib.contextmanager
def orderly() -> Iterator[None]:
    """Within the block the first INT, TERM or HUP raises `Ended`; later ones do nothing.

    A signal that the caller ignores (nohup) stays ignored.
    """
    if threading.current_thread() is not threading.main_thread():
        yield
        return
    has_ended = False

    def end(number: int, _frame: FrameType | None) -> None:
        nonlocal has_ended
        if not has_ended:
            has_ended = True
            raise Ended(number)

    numbers = [getattr(signal, name) for name in _NAMES if hasattr(signal, name)]
    before = {number: signal.getsignal(number) for number in numbers}
    taken = [number for number in numbers if before[number] is not signal.SIG_IGN]
    for number in taken:
        signal.signal(number, end)
    try:
        yield
    finally:
        has_ended = True  # raise nothing while the old handlers return
        for number in taken:
            signal.signal(number, before[number])


def wait_for_input(descriptor: int, timeout: float | None = None) -> bool:
    """Wait until input is readable, at most `timeout` seconds; return whether it is.

    A signal that arrives just before a blocking `read` only sets a flag in Python, and the read goes on: the Ctrl-C
    would be lost. Python's wakeup descriptor ends this wait, and the signal's handler runs.
    """
    if threading.current_thread() is not threading.main_thread():
        return bool(select.select([descriptor], [], [], timeout)[0])
    reading, writing = os.pipe()
    os.set_blocking(writing, False)
    before = signal.set_wakeup_fd(writing, warn_on_full_buffer=False)
    try:
        while True:
            ready = select.select([descriptor, reading], [], [], timeout)[0]
            if reading not in ready:
                return bool(ready)
            os.read(reading, 4096)  # the handler did not raise
    finally:
        signal.set_wakeup_fd(before)
        os.close(reading)
        os.close(writing)
