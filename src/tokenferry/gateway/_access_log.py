"""One line for every request, written away from the event loop."""

import json
import logging
import re
import threading
from queue import Empty, SimpleQueue
from types import TracebackType
from typing import Final, Self

from tokenferry.gateway._record import Record

logger = logging.getLogger("tokenferry.access")
_own_logger = logging.getLogger(__name__)

_LIMIT: Final = 10_000
_INTERVAL: Final = 0.25
_CLOSE_SECONDS: Final = 5.0
_LONGEST: Final = 128
_BARE: Final = re.compile(r"[A-Za-z0-9._:@/+-]+")
_FREE: Final = frozenset(("path", "provider"))  # all other words are ours, or of letters that need no quotes
_TOKEN: Final = re.compile(r"(sk-|tf[ka]_|eyJ)[A-Za-z0-9._-]*")


def told(value: bytes | str) -> str | None:
    """A client's own word as it may be logged: of harmless letters, not long, and nothing that looks like a token."""
    text = value if isinstance(value, str) else value.decode("latin-1")
    return text if len(text) <= _LONGEST and _BARE.fullmatch(text) and not _TOKEN.search(text) else None


def told_path(path: bytes) -> str:
    """A path as it may be logged: its beginning, without what looks like a token."""
    return _TOKEN.sub("[redacted]", path[:_LONGEST].decode("latin-1"))


class Line:
    """A request as the access log tells it: `str()` gives `key=value` pairs, `fields()` the same for JSON."""

    __slots__ = ("_record", "_text")

    def __init__(self, record: Record) -> None:
        self._record = record
        self._text = ""

    def fields(self) -> dict[str, int | str]:
        """What there is to tell; what is unknown is left out. Times in seconds, milliseconds where the name says so."""
        record, usage = self._record, self._record.usage
        fields: dict[str, int | str | None] = {
            "time": int(record.at),
            "id": record.request_id,
            "method": record.method,
            "path": record.path,
            "status": record.status,
            "upstream_status": record.upstream_status,
            "client": record.client,
            "account": record.account,
            "provider": record.provider,
            "model": record.model,
            "error": record.error,
            "first_byte_ms": None if record.first_byte is None else round(record.first_byte * 1000),
            "ms": round(record.duration * 1000),
            "bytes_in": record.bytes_in,
            "bytes_out": record.bytes_out,
            "attempts": record.attempts,
            "input_tokens": usage.input,
            "output_tokens": usage.output,
            "cache_creation_tokens": usage.cache_creation,
            "cache_read_tokens": usage.cache_read,
            "session": record.session,
            "agent": record.agent,
            "parent_agent": record.parent_agent,
        }
        return {name: value for name, value in fields.items() if value is not None}

    def __str__(self) -> str:
        if not self._text:  # a filter and a handler ask for it
            fields = self.fields()
            for name in _FREE & fields.keys():
                fields[name] = _quoted(str(fields[name]))
            self._text = " ".join([f"{name}={value}" for name, value in fields.items()])
        return self._text


def _quoted(text: str) -> str:
    # JSON's escapes leave no control character, and nothing beyond ASCII.
    return text if _BARE.fullmatch(text) else json.dumps(text)


class AccessLog:
    """Hands each request's record to the logger `tokenferry.access`, in batches, on a thread of its own.

    A log that is written slowly slows down nobody: of what is waiting 10,000 lines are kept, and later ones dropped.
    As a context manager it writes within the block, and at its end what is left.
    """

    def __init__(self, *, limit: int = _LIMIT, interval: float = _INTERVAL) -> None:
        self._limit = limit
        self._interval = interval
        self._waiting: SimpleQueue[Record | None] = SimpleQueue()
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

    def _run(self) -> None:
        reported = 0
        while (record := self._waiting.get()) is not None:
            _write(record)
            _flush()
            self._closing.wait(self._interval)
            is_over = not self._write_batch()
            _flush()
            if is_over:
                break
            if self.dropped != reported:
                _own_logger.warning("%d lines of the access log were dropped", self.dropped - reported)
                reported = self.dropped

    def _write_batch(self) -> bool:
        """Write what has gathered meanwhile; tells whether there may be more."""
        try:
            for _ in range(self._limit):
                record = self._waiting.get_nowait()
                if record is None:
                    return False
                _write(record)
        except Empty:
            pass
        return True


def _write(record: Record) -> None:
    # A `LogRecord` of our own spares the search for the caller, who is always the same.
    logger.handle(logging.LogRecord(logger.name, logging.INFO, __file__, 0, Line(record), None, None))


def _flush() -> None:
    """Handlers may keep the lines of a batch until here."""
    place: logging.Logger | None = logger
    while place is not None:
        for handler in place.handlers:
            handler.flush()
        place = place.parent if place.propagate else None
