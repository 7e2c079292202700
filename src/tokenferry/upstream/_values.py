from collections.abc import Mapping
from typing import Protocol

import msgspec
from msgspec import Struct

from tokenferry.upstream._errors import UpstreamError

__all__ = ["ResponseHead", "Sink", "Timeouts", "UpstreamStatistics"]


class Timeouts(Struct, frozen=True):
    """All in seconds. There is no total cap: an answer may go on as long as it goes on."""

    connect: float = 10.0
    """Name resolution, TCP, a proxy's tunnel and TLS together; as long again for a turn if connections are limited."""
    first_byte: float = 600.0
    """From the request's write to the answer's complete head."""
    first_byte_stream: float = 120.0
    """The same for requests sent with `stream=True`."""
    idle: float = 300.0
    """Between two reads of an answer's body, unless the call is paused."""
    keep_idle: float = 60.0
    """How long an idle connection is kept: address translators forget in silence, and servers close about then."""


class ResponseHead(msgspec.Struct, frozen=True):
    """An answer's status and headers: names in lower case, order and repetitions kept."""

    status: int
    headers: list[tuple[bytes, bytes]]


class Sink(Protocol):
    """Takes a response. One of `on_end` and `on_failure` comes last, once; after `Call.abort` nothing comes."""

    def on_head(self, head: ResponseHead, /) -> None: ...
    def on_body(self, chunk: bytes, /) -> None: ...
    def on_end(self) -> None: ...
    def on_failure(self, failure: UpstreamError, /) -> None: ...


class UpstreamStatistics(Struct, frozen=True):
    """What an upstream's connections and calls are doing (the first four) and have done."""

    open: int
    idle: int
    in_flight: int
    queued: int
    dialled: int
    reused: int
    retried: int
    failures: Mapping[str, int]
    """By `UpstreamError.kind`."""
