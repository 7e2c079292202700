import contextlib
import logging
import sys
from collections.abc import Iterator
from typing import Final

from tokenferry.cli._output import note, printable, redacted
from tokenferry.secret import Redactor

_OURS: Final = "tokenferry"

redactor: Final = Redactor()
"""Knows every secret that the running command has read."""


class _Handler(logging.Handler):
    """A warning is a sentence to the user; anything below it is a line of a log."""

    def emit(self, record: logging.LogRecord) -> None:
        try:
            if record.levelno >= logging.WARNING:
                note(record.getMessage())
                return
            text = printable(redacted(self.format(record)))
            sys.stderr.write(f"{text}\n")
            sys.stderr.flush()
        except Exception:  # noqa: BLE001  # a logging call must never break what it tells of
            self.handleError(record)


@contextlib.contextmanager
def logs_on_stderr() -> Iterator[None]:
    """Within the block, warnings go to stderr; `set_level` asks for more."""
    handler = _Handler()
    handler.setFormatter(logging.Formatter("%(asctime)s %(levelname)s %(name)s: %(message)s"))
    handler.addFilter(redactor)
    root, ours = logging.getLogger(), logging.getLogger(_OURS)
    level = ours.level
    root.addHandler(handler)
    try:
        yield
    finally:
        root.removeHandler(handler)
        ours.setLevel(level)


def set_level(level: str | int) -> None:
    """Say from which level on (its name, or number) our own records count; the more talkative of two wishes wins."""
    ours = logging.getLogger(_OURS)
    before = ours.level
    ours.setLevel(level.upper() if isinstance(level, str) else level)
    if before:
        ours.setLevel(min(before, ours.level))
