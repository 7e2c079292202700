from collections.abc import Mapping
from typing import Protocol

import msgspec
from msgspec import Struct

from tokenferry.upstream._errors import UpstreamError

__all__ = ["ResponseHead", "Sink", "Timeouts", "UpstreamStatistics"]


class Timeouts(Struct, frozen=True):
    """Timeouts in seconds. There is none for a whole answer."""

    connect: float = 10.0
    """For name resolution, TCP, a proxy's tunnel and TLS together; and for the wait for a connection at the limit."""
    first_byte: float = 600.0
    """From sending the request to the answer's complete head."""
    first_byte_stream: float = 120.0
    """The same for requests with `stream=True`."""
    idle: float = 300.0
    """Between two reads of an answer's body, unless the call is paused."""
    keep_idle: float = 60.0
    """For idle connections: NATs forget them silently, and servers close them about then."""


class ResponseHead(msgspec.Struct, frozen=True):
    """An answer's status and headers, with names in lower case, in order and with repetitions."""

    status: int
    headers: list[tuple[bytes, bytes]]


class Sink(Protocol):
    """Receives a response. `on_end` or `on_failure` is called last, once; after `Call.abort` nothing is called."""

    def on_head(self, head: ResponseHead, /) -> None: ...
    def on_body(self, chunk: bytes, /) -> None: ...
    def on_end(self) -> None: ...
    def on_failure(self, failure: UpstreamError, /) -> None: ...


class UpstreamStatistics(Struct, frozen=True):
    """The present numbers of connections and calls (the first four), and totals."""

    open: int
    idle: int
    in_flight: int
    queued: int
    dialled: int
    reused: int
    retried: int
    failures: Mapping[str, int]
    """The number of failures by `UpstreamError.kind`."""
