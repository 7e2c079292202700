import contextlib
import json
import logging
import os
import stat
import sys
from collections.abc import Callable, Iterator
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, Final, Literal, TypeAlias

from tokenferry.cli._output import printable, redacted, warn
from tokenferry.errors import StorageFailed, TokenferryError
from tokenferry.logfmt import pairs
from tokenferry.secret import Redactor
from tokenferry.settings import LogSettings

_Format: TypeAlias = Literal["human", "logfmt", "json"]

_OURS: Final = "tokenferry"
_ACCESS: Final = "tokenferry.access"
_ATOMIC: Final = 4096
_LARGE: Final = 1024 * 1024
_APPEND: Final = os.O_WRONLY | os.O_APPEND | os.O_CREAT | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC

redactor: Final = Redactor()
"""Knows every secret that the running command has read."""


class _Handler(logging.Handler):
    """Writes log records for a command's user, or as a log.

    For the user, a warning is a sentence and anything below it a line. A long-running command writes every record as a
    line of one format, to stderr or a file.
    """

    has_spoken = False

    def __init__(self) -> None:
        super().__init__()
        self.format_asked: _Format | None = None
        """None if the reader is the command's user."""
        self.file: _LogFile | None = None
        self._batch: list[str] = []

    def emit(self, record: logging.LogRecord) -> None:
        self.has_spoken = True
        try:
            if self.format_asked is None and record.levelno >= logging.WARNING:
                warn(record.getMessage())
                return
            lines = _WRITERS[self.format_asked or "human"](record)
            if record.name != _ACCESS:  # its values are plain words, none of which looks like a token
                lines = [printable(redacted(line)) for line in lines]
            self._batch += [f"{line}\n" for line in lines]
            if record.name != _ACCESS:
                self.flush()
        except Exception:  # noqa: BLE001  # a logging call must never break what it reports
            self.handleError(record)

    def flush(self) -> None:
        """Write the buffered lines of the access log."""
        with self.lock or contextlib.nullcontext():
            batch, self._batch = self._batch, []
            text = "".join(batch)
            if self.file is not None:
                self.file.write(text)
                return
            for piece in _pieces(text, _LARGE if _is_file() else _ATOMIC):
                sys.stderr.write(piece)
                sys.stderr.flush()


class _LogFile:
    """An append-only file, reopened after logrotate(8) moves or removes it.

    Raises `StorageFailed` if it can't be opened.
    """

    def __init__(self, path: Path) -> None:
        self.path = path
        self._descriptor = self._open()

    def _open(self) -> int:
        try:
            return os.open(self.path, _APPEND, 0o600)
        except OSError as fault:
            raise StorageFailed(
                f"the log file {self.path} can't be opened: {fault.strerror}; set file under [log] in config.toml"
            ) from None

    def write(self, text: str) -> None:
        data = text.encode(errors="backslashreplace")
        with contextlib.suppress(TokenferryError):
            if not self._is_in_place():
                replaced, self._descriptor = self._descriptor, self._open()
                os.close(replaced)
        # One write per batch, so that lines of several workers don't mix.
        os.write(self._descriptor, data)

    def _is_in_place(self) -> bool:
        try:
            return os.path.samestat(self.path.stat(), os.fstat(self._descriptor))
        except OSError:
            return False

    def close(self) -> None:
        os.close(self._descriptor)


def _is_file() -> bool:
    """Whether stderr is a file. Writes to a pipe are atomic only up to a size (pipe(7)), and workers share the pipe."""
    try:
        return stat.S_ISREG(os.fstat(sys.stderr.fileno()).st_mode)
    except (OSError, ValueError):
        return False


def _pieces(text: str, size: int) -> Iterator[str]:
    """Cut at line ends into pieces of at most `size` characters; a longer line is a piece of its own."""
    start = 0
    while start < len(text):
        end = text.rfind("\n", start, start + size) + 1 or text.find("\n", start) + 1 or len(text)
        yield text[start:end]
        start = end


def _human(record: logging.LogRecord) -> list[str]:
    start = f"{datetime.fromtimestamp(record.created, UTC):%Y-%m-%dT%H:%M:%SZ} {record.levelname.lower():<7}"
    if hasattr(record.msg, "sentences"):
        return [f"{start} {sentence}" for sentence in record.msg.sentences()]
    room = record.name.removeprefix("tokenferry.").partition(".")[0]
    return [f"{start} {room}: {line}" for line in (*record.getMessage().splitlines(), *_traceback(record).splitlines())]


def _logfmt(record: logging.LogRecord) -> list[str]:
    if record.name == _ACCESS:
        return record.getMessage().splitlines()  # its maker wrote logfmt
    return [pairs(fields.items()) for fields in _fields(record)]


def _json(record: logging.LogRecord) -> list[str]:
    return [json.dumps(fields) for fields in _fields(record)]


def _fields(record: logging.LogRecord) -> list[dict[str, Any]]:
    """The record as objects, one per line of the log."""
    common: dict[str, Any] = {
        "time": int(record.created),
        "level": record.levelname.lower(),
        "logger": record.name,
    }
    if hasattr(record.msg, "fields"):
        return [common | fields for fields in record.msg.fields()]
    common["message"] = record.getMessage()
    if trace := _traceback(record):
        common["exception"] = trace
    return [common]


def _traceback(record: logging.LogRecord) -> str:
    if record.exc_info and record.exc_info[0] is not None:
        return record.exc_text or logging.Formatter().formatException(record.exc_info)
    return record.exc_text or ""


_WRITERS: Final[dict[_Format, Callable[[logging.LogRecord], list[str]]]] = {
    "human": _human,
    "logfmt": _logfmt,
    "json": _json,
}


@contextlib.contextmanager
def logs_on_stderr() -> Iterator[None]:
    """Write warnings to stderr within the block; `set_level` lowers the level."""
    handler = _Handler()
    handler.addFilter(redactor)
    root, ours = logging.getLogger(), logging.getLogger(_OURS)
    level = ours.level
    root.addHandler(handler)
    try:
        yield
    finally:
        root.removeHandler(handler)
        ours.setLevel(level)
        if handler.file is not None:
            handler.file.close()


def write_log(settings: LogSettings) -> None:
    """Write every later record as a line, in the format and to the place of `[log]`. Raises `StorageFailed`."""
    for handler in logging.getLogger().handlers:
        if isinstance(handler, _Handler):
            if settings.file != (handler.file and handler.file.path):
                replaced, handler.file = handler.file, _LogFile(settings.file) if settings.file is not None else None
                if replaced is not None:
                    replaced.close()
            handler.format_asked = _chosen(settings)


def _chosen(settings: LogSettings) -> _Format:
    if settings.format != "auto":
        return settings.format
    return "human" if settings.file is None and sys.stderr.isatty() else "logfmt"


def has_logged() -> bool:
    """Whether the running command logged anything."""
    return any(isinstance(one, _Handler) and one.has_spoken for one in logging.getLogger().handlers)


def level_asked() -> int:
    """The level of our own records; 0 if nothing sets it."""
    return logging.getLogger(_OURS).level


def set_level(level: str | int, before: int | None = None) -> None:
    """Set the level of our own records, by name or number; the lower of two requested levels wins.

    The other one is `before`: by default the present level.
    """
    ours = logging.getLogger(_OURS)
    before = ours.level if before is None else before
    ours.setLevel(level.upper() if isinstance(level, str) else level)
    if before:
        ours.setLevel(min(before, ours.level))
