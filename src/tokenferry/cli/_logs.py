import contextlib
import json
import logging
import os
import stat
import sys
from collections.abc import Iterator
from typing import Any, Final

from tokenferry.cli._output import note, printable, redacted
from tokenferry.secret import Redactor

_OURS: Final = "tokenferry"
_ACCESS: Final = "tokenferry.access"
_EVENTS: Final = (
    "tokenferry.background",
    "tokenferry.broker",
    "tokenferry.gateway",
    "tokenferry.pool",
    "tokenferry.refresh",
    "tokenferry.streaming",
    "tokenferry.upstream",
)
"""The rooms that tell of what happens while a gateway runs, and not of how it was started."""

_ATOMIC: Final = 4096
_LARGE: Final = 1024 * 1024

redactor: Final = Redactor()
"""Knows every secret that the running command has read."""


class _Handler(logging.Handler):
    """A warning is a sentence to the user; anything below it is a line of a log, with its date.

    Or every record is such a line; or all is JSON, one object a line.
    """

    as_json = False
    as_log = False
    has_spoken = False

    def __init__(self) -> None:
        super().__init__()
        self._batch: list[str] = []

    def emit(self, record: logging.LogRecord) -> None:
        self.has_spoken = True
        try:
            if self.as_json:
                lines = [redacted(json.dumps(fields)) for fields in _fields(record)]
            elif record.levelno >= logging.WARNING and not (self.as_log and record.name.startswith(_EVENTS)):
                note(record.getMessage())
                return
            elif record.name == _ACCESS:
                # Many lines, all of plain words: they have times of their own, and nothing that looks like a token.
                self._batch.append(f"{record.getMessage()}\n")
                return
            else:
                lines = [redacted(self.format(record))]
            self._batch += [f"{printable(line)}\n" for line in lines]
            if record.name != _ACCESS:
                self.flush()
        except Exception:  # noqa: BLE001  # a logging call must never break what it tells of
            self.handleError(record)

    def flush(self) -> None:
        """Write the lines of the access log that have gathered."""
        with self.lock or contextlib.nullcontext():
            batch, self._batch = self._batch, []
            for piece in _pieces("".join(batch), _LARGE if _is_file() else _ATOMIC):
                sys.stderr.write(piece)
                sys.stderr.flush()


def _is_file() -> bool:
    """Whether stderr goes to a file. A pipe takes only so much as one (pipe(7)), and other workers write into it."""
    try:
        return stat.S_ISREG(os.fstat(sys.stderr.fileno()).st_mode)
    except (OSError, ValueError):
        return False


def _pieces(text: str, size: int) -> Iterator[str]:
    """Cut at line ends, into pieces of at most `size` characters where the lines allow it."""
    start = 0
    while start < len(text):
        end = text.rfind("\n", start, start + size) + 1 or text.find("\n", start) + 1 or len(text)
        yield text[start:end]
        start = end


def _fields(record: logging.LogRecord) -> list[dict[str, Any]]:
    """What the record tells, as objects of which each is a line."""
    common: dict[str, Any] = {
        "time": int(record.created),
        "level": record.levelname.lower(),
        "logger": record.name,
    }
    told = getattr(record.msg, "fields", None)
    if told is not None:
        return [common | fields for fields in told()]
    common["message"] = record.getMessage()
    if record.exc_text or record.exc_info:
        common["exception"] = record.exc_text or logging.Formatter().formatException(record.exc_info or (None,) * 3)
    return [common]


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


def log_as_json(wanted: bool = True) -> None:  # noqa: FBT001, FBT002  # a setting
    """Say whether, from here on, every record on stderr is a JSON object on a line of its own."""
    for handler in logging.getLogger().handlers:
        if isinstance(handler, _Handler):
            handler.as_json = wanted


def log_as_lines() -> None:
    """From here on warnings about what happens are lines of a log, too, with their date."""
    for handler in logging.getLogger().handlers:
        if isinstance(handler, _Handler):
            handler.as_log = True


def has_logged() -> bool:
    """Whether the running command logged anything."""
    return any(isinstance(one, _Handler) and one.has_spoken for one in logging.getLogger().handlers)


def level_asked() -> int:
    """From which level on our own records count by now; 0 where nobody said."""
    return logging.getLogger(_OURS).level


def set_level(level: str | int, before: int | None = None) -> None:
    """Say from which level on (its name, or number) our own records count; the more talkative of two wishes wins.

    The other one is `before`, by default what was said last.
    """
    ours = logging.getLogger(_OURS)
    before = ours.level if before is None else before
    ours.setLevel(level.upper() if isinstance(level, str) else level)
    if before:
        ours.setLevel(min(before, ours.level))
