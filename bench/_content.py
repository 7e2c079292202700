"""What the origin answers and the load expects: both make it from the same few numbers."""

import re
from collections.abc import Iterator
from hashlib import sha256
from typing import Final

START = (
    b'event: message_start\ndata: {"type":"message_start","message":{"id":"msg_1","type":"message","role":"assistant",'
    b'"content":[],"model":"claude-x","stop_reason":null,"usage":{"input_tokens":9,"output_tokens":1}}}\n\n'
)
STOP = (
    b'event: message_delta\ndata: {"type":"message_delta","delta":{"stop_reason":"end_turn"},'
    b'"usage":{"output_tokens":7}}\n\n'
    b'event: message_stop\ndata: {"type":"message_stop"}\n\n'
)


def document(size: int) -> bytes:
    """JSON of this many bytes."""
    frame = b'{"type":"message","fill":"%b"}'
    return frame % (b"x" * (size - len(frame) + 2))


SENT_AT: Final = re.compile(rb'"text":"(\d{19}) ')
"""When an event of a timed stream was sent, in nanoseconds of the system's monotonic clock."""


def delta(seed: int, number: int, sent_at: int | None = None) -> bytes:
    """The event of that number in the stream of that seed; no two are alike. A timed one says when it was sent."""
    text = sha256(b"%d %d" % (seed, number)).hexdigest()
    if sent_at is not None:
        text = f"{sent_at:019} {text}"
    return (
        'event: content_block_delta\ndata: {"type":"content_block_delta","index":0,'
        f'"delta":{{"type":"text_delta","text":"{text} ⛴"}}}}\n\n'
    ).encode()


def events(seed: int, count: int, *, is_timed: bool = False) -> Iterator[bytes]:
    """A whole stream with this many deltas; those of a timed one were sent at 0."""
    yield START
    for number in range(count):
        yield delta(seed, number, 0 if is_timed else None)
    yield STOP


def untimed(stream: bytes) -> bytes:
    """A timed stream as if all of it had been sent at 0."""
    return SENT_AT.sub(b'"text":"%019d ' % 0, stream)


def digest(parts: Iterator[bytes]) -> str:
    known = sha256()
    for part in parts:
        known.update(part)
    return known.hexdigest()
