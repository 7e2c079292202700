"""The content of responses: the origin and the load generate the same bytes from a few numbers."""

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
    """A JSON document of this many bytes."""
    frame = b'{"type":"message","fill":"%b"}'
    return frame % (b"x" * (size - len(frame) + 2))


SENT_AT: Final = re.compile(rb'"text":"(\d{19}) ')
"""The time in an event of a timed stream: nanoseconds of the system's monotonic clock."""


def delta(seed: int, number: int, sent_at: int | None = None) -> bytes:
    """An event by its number in the stream of a seed; all differ. A timed one contains its time of sending."""
    text = sha256(b"%d %d" % (seed, number)).hexdigest()
    if sent_at is not None:
        text = f"{sent_at:019} {text}"
    return (
        'event: content_block_delta\ndata: {"type":"content_block_delta","index":0,'
        f'"delta":{{"type":"text_delta","text":"{text} ⛴"}}}}\n\n'
    ).encode()


def events(seed: int, count: int, *, is_timed: bool = False) -> Iterator[bytes]:
    """A whole stream with this many deltas; in a timed one every time is 0."""
    yield START
    for number in range(count):
        yield delta(seed, number, 0 if is_timed else None)
    yield STOP


def untimed(stream: bytes) -> bytes:
    """A timed stream with every time set to 0."""
    return SENT_AT.sub(b'"text":"%019d ' % 0, stream)


def digest(parts: Iterator[bytes]) -> str:
    known = sha256()
    for part in parts:
        known.update(part)
    return known.hexdigest()
