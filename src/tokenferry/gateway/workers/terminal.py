import os


class Terminal:
    """The terminal that this process was started from, if it was: to be made at its start."""

    def __init__(self) -> None:
        self._had_one = _is_there()

    def is_gone(self) -> bool:
        """Tell whether it was closed: a HUP then comes from its end, and from nobody who asks for something."""
        return self._had_one and not _is_there()


def _is_there() -> bool:
    try:
        os.close(os.open("/dev/tty", os.O_RDWR | os.O_NOCTTY | os.O_CLOEXEC))
    except OSError:
        return False
    return True
