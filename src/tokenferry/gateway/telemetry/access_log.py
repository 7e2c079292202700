"""Writes a line per request, and other logging, outside the event loop."""

import contextlib
import logging
from collections import deque
from collections.abc import Callable, Iterable, Iterator, Sequence
from functools import lru_cache, partial
from typing import Final

from tokenferry.background import PeriodicThread
from tokenferry.gateway.telemetry.record import RequestRecord
from tokenferry.logfmt import pairs

logger = logging.getLogger("tokenferry.access")
_own_logger = logging.getLogger(__name__)

_LIMIT: Final = 10_000
_INTERVAL: Final = 0.1
_MOST_LINES: Final = 1000
_OUTCOME: Final = ("method", "path", "status", "upstream_status")
_WHOM: Final = ("client", "account", "provider", "model", "upstream_model", "error")
_TOKENS: Final = ("input_tokens", "output_tokens", "cache_creation_tokens", "cache_read_tokens", "usage")
_ESTIMATED: Final = "estimated"
_SESSION: Final = ("session", "agent", "parent_agent")
_TRANSLATED: Final = ("translated", "left_out")
_NAMES: Final = (
    *("time", "id", *_OUTCOME, *_WHOM),
    *("first_byte_ms", "ms", "bytes_in", "bytes_out", "attempts", *_TOKENS, *_SESSION, *_TRANSLATED),
)


class LogLine:
    """A request in the access log: `str()` gives `key=value` pairs, `fields()` the same for JSON."""

    __slots__ = ("_record", "_text")

    def __init__(self, record: RequestRecord) -> None:
        self._record = record
        self._text = _text(
            record
        )  # built on the event loop, since a thread that waits for the GIL would cost both more

    def fields(self) -> dict[str, int | str]:
        """Give the known fields. Times are in seconds, or in milliseconds where the name ends with `ms`."""
        record, usage = self._record, self._record.usage
        values = (
            int(record.at),
            record.request_id,
            *(record.method, record.path, record.status, record.upstream_status),
            *(record.client, record.account, record.provider, record.model, record.upstream_model, record.error),
            _milliseconds(record.first_byte),
            _milliseconds(record.duration),
            *(record.bytes_in, record.bytes_out, record.attempts),
            *(usage.input, usage.output, usage.cache_creation, usage.cache_read),
            _counted(record),
            *(record.session, record.agent, record.parent_agent),
            *(record.translated, _left_out(record)),
        )
        return {name: value for name, value in zip(_NAMES, values, strict=True) if value is not None}

    def sentence(self) -> str:
        """Give the request as a line of text without its date."""
        record, usage = self._record, self._record.usage
        model = record.model or "-"
        served = f"{model} -> {record.upstream_model}" if record.upstream_model not in {None, model} else model
        parts = [f"{record.status} {record.method} {record.path}", served]
        parts += [f"by {record.account} at {record.provider}"] if record.account else []
        parts += [record.error] if record.error else []
        parts += [f"{record.attempts} attempts"] if record.attempts > 1 else []
        parts += [f"{usage.input or 0} in, {usage.output or 0} out"] if usage.input is not None else []
        return ", ".join([*parts, f"{record.duration:.1f} s", f"key {record.client or '-'}", record.request_id])

    def __str__(self) -> str:
        return self._text


def _text(record: RequestRecord) -> str:
    usage, first = record.usage, record.first_byte
    outcome = _outcome(record.method, record.path, record.status, record.upstream_status)
    names = _names(record.client, record.account, record.provider, record.model, record.upstream_model, record.error)
    first_byte = "" if first is None else f" first_byte_ms={round(first * 1000)}"
    tokens = ""
    if usage.input is not None:
        tokens += f" input_tokens={usage.input}"
    if usage.output is not None:
        tokens += f" output_tokens={usage.output}"
    if usage.cache_creation is not None:
        tokens += f" cache_creation_tokens={usage.cache_creation}"
    if usage.cache_read is not None:
        tokens += f" cache_read_tokens={usage.cache_read}"
    if (counted := _counted(record)) is not None:
        tokens += f" usage={counted}"
    translated = "" if record.translated is None else _translated(record.translated, _left_out(record))
    session = "" if record.session is None else _session(record.session, record.agent, record.parent_agent)
    return (
        f"time={int(record.at)} level=info logger=tokenferry.access id={record.request_id}{outcome}{names}{first_byte}"
        f" ms={round(record.duration * 1000)}"
        f" bytes_in={record.bytes_in} bytes_out={record.bytes_out} attempts={record.attempts}"
        f"{tokens}{session}{translated}"
    )


def _counted(record: RequestRecord) -> str | None:
    """Say how reliable the usage is; None if the upstream counted it."""
    return "unpriced" if record.is_unpriced else _ESTIMATED if record.usage.is_estimated else None


def _pairs(names: Iterable[str], values: "Iterable[int | str | None]") -> str:
    text = pairs(zip(names, values, strict=True))
    return f" {text}" if text else ""


@lru_cache(maxsize=1024)
def _outcome(*values: "int | str | None") -> str:
    return _pairs(_OUTCOME, values)


@lru_cache(maxsize=4096)
def _names(*values: str | None) -> str:
    return _pairs(_WHOM, values)


@lru_cache(maxsize=4096)
def _session(*values: str | None) -> str:
    return _pairs(_SESSION, values)


def _left_out(record: RequestRecord) -> str | None:
    return ",".join(record.left_out) or None if record.translated is not None else None


@lru_cache(maxsize=4096)
def _translated(*values: str | None) -> str:
    return _pairs(_TRANSLATED, values)


def _milliseconds(seconds: float | None) -> int | None:
    return None if seconds is None else round(seconds * 1000)


class LogLines:
    """The message of one log record: a line for each of several requests, since a record costs more than a line."""

    __slots__ = ("_lines", "_text")

    def __init__(self, lines: list[LogLine]) -> None:
        self._lines = lines
        self._text = ""

    def fields(self) -> list[dict[str, int | str]]:
        """Give the known fields of each request."""
        return [line.fields() for line in self._lines]

    def sentences(self) -> list[str]:
        """Give each request as a line of text."""
        return [line.sentence() for line in self._lines]

    def __str__(self) -> str:
        if not self._text:  # a filter and a handler may both need it
            self._text = "\n".join(map(str, self._lines))
        return self._text


class AccessLog(PeriodicThread):
    """Passes the requests' records to the logger `tokenferry.access`, in batches, on its own thread.

    A slow log delays no request: up to 10,000 lines wait, and further ones are dropped.
    As a context manager it writes within the block, and the rest at the end. `instead_of` moves other loggers'
    handlers to that thread, too.
    """

    def __init__(self, *, limit: int = _LIMIT, interval: float = _INTERVAL) -> None:
        lost = "lines of the access log are lost"
        super().__init__("tokenferry-access-log", self._write, None, pause=interval, at_end=True, trouble=lost)
        self._limit = limit
        self._waiting: deque[LogLine | Callable[[], None]] = deque()
        self.dropped = self._reported = 0
        """The number of dropped lines."""

    def add(self, *records: RequestRecord) -> None:
        """Write them soon. Takes no lock and does no I/O. The records must not change later."""
        if logger.isEnabledFor(logging.INFO):
            self._take([LogLine(record) for record in records])

    def later(self, call: Callable[[], None]) -> None:
        """Call it on the log's thread, in order. It may block there."""
        self._take([call])

    @contextlib.contextmanager
    def instead_of(self, logger: logging.Logger) -> Iterator[None]:
        """Run that logger's handlers on the log's thread within the block, so that no request waits for them."""
        handlers = logger.handlers[:]
        logger.handlers[:] = [_Later(self, handlers)]
        try:
            yield
        finally:
            logger.handlers[:] = handlers

    def _take(self, work: Sequence[LogLine | Callable[[], None]]) -> None:
        room = max(self._limit - len(self._waiting), 0)
        self.dropped += max(len(work) - room, 0)
        self._waiting.extend(work[:room])
        self.wake()

    def _write(self) -> None:
        """Write, in order, what is waiting."""
        lines: list[LogLine] = []
        for _ in range(len(self._waiting)):
            one = self._waiting.popleft()
            if isinstance(one, LogLine):
                lines.append(one)
                if len(lines) < _MOST_LINES:
                    continue
            _log(lines)
            lines = []
            if not isinstance(one, LogLine):
                with contextlib.suppress(OSError, ValueError):  # its reader is gone
                    one()
        _log(lines)
        _flush()
        if self.dropped != self._reported:
            _own_logger.warning("%d lines of the access log were dropped", self.dropped - self._reported)
            self._reported = self.dropped


class _Later(logging.NullHandler):
    """Replaces handlers, and calls them on an access log's thread. Its callers take no lock."""

    def __init__(self, log: AccessLog, handlers: list[logging.Handler]) -> None:
        super().__init__()
        self._log = log
        self._handlers = handlers

    def handle(self, record: logging.LogRecord) -> bool:
        if self._log.is_current:
            self._pass_on(record)
        else:
            self._log.later(partial(self._pass_on, record))
        return True

    def flush(self) -> None:
        if self._log.is_current:
            for handler in self._handlers:
                handler.flush()

    def _pass_on(self, record: logging.LogRecord) -> None:
        for handler in self._handlers:
            if record.levelno >= handler.level:
                handler.handle(record)


def _log(lines: list[LogLine]) -> None:
    if lines:
        # A `LogRecord` made here saves the search for the caller, which is always the same.
        logger.handle(logging.LogRecord(logger.name, logging.INFO, __file__, 0, LogLines(lines), None, None))


def _flush() -> None:
    """Flush the handlers, which may have buffered a batch."""
    place: logging.Logger | None = logger
    while place is not None:
        for handler in place.handlers:
            with contextlib.suppress(OSError, ValueError):  # its reader is gone
                handler.flush()
        place = place.parent if place.propagate else None
