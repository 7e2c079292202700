"""One line for every request, and all other logging, written away from the event loop."""

import contextlib
import json
import logging
import re
import threading
from collections.abc import Callable, Iterable, Iterator
from functools import lru_cache, partial
from queue import Empty, SimpleQueue
from types import TracebackType
from typing import Final, Self

from tokenferry.gateway._record import Record

logger = logging.getLogger("tokenferry.access")
_own_logger = logging.getLogger(__name__)

_LIMIT: Final = 10_000
_INTERVAL: Final = 0.25
_CLOSE_SECONDS: Final = 5.0
_MOST_LINES: Final = 100
_LONGEST: Final = 128
_BARE: Final = re.compile(r"[A-Za-z0-9._:@/+-]+")
_NAMES: Final = (
    "time", "id", "method", "path", "status", "upstream_status", "client", "account", "provider", "model",
    "upstream_model", "error", "first_byte_ms", "ms", "bytes_in", "bytes_out", "attempts", "input_tokens",
    "output_tokens", "cache_creation_tokens", "cache_read_tokens", "session", "agent", "parent_agent",
)  # fmt: skip
_FREE: Final = (
    _NAMES.index("path"),
    _NAMES.index("provider"),
    _NAMES.index("upstream_model"),
)  # all other words need no quotes
_TOKEN: Final = re.compile(r"(sk-|tf[ka]_|eyJ)[A-Za-z0-9._-]*")


@lru_cache(maxsize=4096)
def told(value: bytes | str) -> str | None:
    """A client's own word as it may be logged: of harmless letters, not long, and nothing that looks like a token."""
    text = value if isinstance(value, str) else value.decode("latin-1")
    return text if len(text) <= _LONGEST and _BARE.fullmatch(text) and not _TOKEN.search(text) else None


@lru_cache(maxsize=4096)
def told_name(value: str) -> str | None:
    """A name as it may be logged that configuration gave, or a client by way of it: printable, and no token."""
    return value if len(value) <= _LONGEST and value.isprintable() and not _TOKEN.search(value) else None


@lru_cache(maxsize=256)
def told_path(path: bytes) -> str:
    """A path as it may be logged: its beginning, without what looks like a token."""
    return _TOKEN.sub("[redacted]", path[:_LONGEST].decode("latin-1"))


class Line:
    """A request as the access log tells it: `str()` gives `key=value` pairs, `fields()` the same for JSON."""

    __slots__ = ("_record",)

    def __init__(self, record: Record) -> None:
        self._record = record

    def fields(self) -> dict[str, int | str]:
        """What there is to tell; what is unknown is left out. Times in seconds, milliseconds where the name says so."""
        return {name: value for name, value in zip(_NAMES, self._values(), strict=True) if value is not None}

    def __str__(self) -> str:
        values = self._values()
        for index in _FREE:
            values[index] = _quoted(values[index])
        return " ".join([f"{name}={value}" for name, value in zip(_NAMES, values, strict=True) if value is not None])

    def _values(self) -> "list[int | str | None]":
        """In the order of `_NAMES`."""
        record, usage = self._record, self._record.usage
        return [
            int(record.at),
            record.request_id,
            record.method,
            record.path,
            record.status,
            record.upstream_status,
            record.client,
            record.account,
            record.provider,
            record.model,
            record.upstream_model,
            record.error,
            None if record.first_byte is None else round(record.first_byte * 1000),
            round(record.duration * 1000),
            record.bytes_in,
            record.bytes_out,
            record.attempts,
            usage.input,
            usage.output,
            usage.cache_creation,
            usage.cache_read,
            record.session,
            record.agent,
            record.parent_agent,
        ]


def _quoted(text: object) -> str | None:
    # JSON's escapes leave no control character, and nothing beyond ASCII.
    return text if text is None or (isinstance(text, str) and _BARE.fullmatch(text)) else json.dumps(text)


class Lines:
    """The message of one log record: some requests, a line for each. Logging costs more than a line does."""

    __slots__ = ("_lines", "_text")

    def __init__(self, records: Iterable[Record]) -> None:
        self._lines = [Line(record) for record in records]
        self._text = ""

    def fields(self) -> list[dict[str, int | str]]:
        """What there is to tell of each."""
        return [line.fields() for line in self._lines]

    def __str__(self) -> str:
        if not self._text:  # a filter and a handler ask for it
            self._text = "\n".join(map(str, self._lines))
        return self._text


class AccessLog:
    """Hands the requests' records to the logger `tokenferry.access`, in batches, on a thread of its own.

    A log that is written slowly slows down nobody: of what is waiting 10,000 lines are kept, and later ones dropped.
    As a context manager it writes within the block, and at its end what is left. `instead_of` has other loggers'
    handlers called on that thread, too.
    """

    def __init__(self, *, limit: int = _LIMIT, interval: float = _INTERVAL) -> None:
        self._limit = limit
        self._interval = interval
        self._waiting: SimpleQueue[Record | Callable[[], None] | None] = SimpleQueue()
        self._closing = threading.Event()
        self._thread: threading.Thread | None = None
        self.dropped = 0
        """How many lines were given up."""

    def __enter__(self) -> Self:
        self._thread = threading.Thread(target=self._run, name="tokenferry-access-log", daemon=True)
        self._thread.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, fault: BaseException | None, traceback: TracebackType | None
    ) -> None:
        self._closing.set()
        self._waiting.put(None)
        if self._thread is not None:
            self._thread.join(_CLOSE_SECONDS)

    def add(self, record: Record) -> None:
        """Have it written soon. Costs no lock and no I/O; the record must not change any more."""
        if not logger.isEnabledFor(logging.INFO):
            return
        if self._waiting.qsize() >= self._limit:
            self.dropped += 1
            return
        self._waiting.put(record)

    def later(self, call: Callable[[], None]) -> None:
        """Have it called on the log's thread, in its turn. It may wait there for whoever reads what it writes."""
        if self._waiting.qsize() >= self._limit:
            self.dropped += 1
        else:
            self._waiting.put(call)

    @contextlib.contextmanager
    def instead_of(self, logger: logging.Logger) -> Iterator[None]:
        """Within the block that logger's handlers are called on the log's thread, so that nobody waits for them."""
        handlers = logger.handlers[:]
        logger.handlers[:] = [_Later(self, handlers)]
        try:
            yield
        finally:
            logger.handlers[:] = handlers

    @property
    def is_own_thread(self) -> bool:
        return threading.current_thread() is self._thread

    def _run(self) -> None:
        reported = 0
        is_over = False
        while not is_over:
            first = self._waiting.get()
            is_over = not self._write([first])
            if not is_over:
                self._closing.wait(self._interval)
                is_over = not self._write(self._gathered())
            if self.dropped != reported and not is_over:
                _own_logger.warning("%d lines of the access log were dropped", self.dropped - reported)
                reported = self.dropped

    def _gathered(self) -> list[Record | Callable[[], None] | None]:
        gathered: list[Record | Callable[[], None] | None] = []
        with contextlib.suppress(Empty):
            while len(gathered) < self._limit:
                gathered.append(self._waiting.get_nowait())
        return gathered

    def _write(self, batch: list[Record | Callable[[], None] | None]) -> bool:
        """Write all in order; tells whether there may be more."""
        records: list[Record] = []
        for one in batch:
            if isinstance(one, Record):
                records.append(one)
                if len(records) < _MOST_LINES:
                    continue
            _log(records)
            records = []
            if one is None:
                break
            if not isinstance(one, Record):
                with contextlib.suppress(OSError, ValueError):  # nobody reads it any more
                    one()
        _log(records)
        _flush()
        return None not in batch


class _Later(logging.NullHandler):
    """Stands for other handlers, and calls them on an access log's thread. Unlike theirs its callers take no lock."""

    def __init__(self, log: AccessLog, handlers: list[logging.Handler]) -> None:
        super().__init__()
        self._log = log
        self._handlers = handlers

    def handle(self, record: logging.LogRecord) -> bool:
        if self._log.is_own_thread:
            self._pass_on(record)
        else:
            self._log.later(partial(self._pass_on, record))
        return True

    def flush(self) -> None:
        if self._log.is_own_thread:
            for handler in self._handlers:
                handler.flush()

    def _pass_on(self, record: logging.LogRecord) -> None:
        for handler in self._handlers:
            if record.levelno >= handler.level:
                handler.handle(record)


def _log(records: list[Record]) -> None:
    if records:
        # A `LogRecord` of our own spares the search for the caller, who is always the same.
        lines = Lines(records)
        logger.handle(logging.LogRecord(logger.name, logging.INFO, __file__, 0, lines, None, None))


def _flush() -> None:
    """Handlers may keep the lines of a batch until here."""
    place: logging.Logger | None = logger
    while place is not None:
        for handler in place.handlers:
            with contextlib.suppress(OSError, ValueError):  # nobody reads it any more
                handler.flush()
        place = place.parent if place.propagate else None
