"""Wire formats: translates requests and answers between the APIs of vendors, and reads server-sent events.

It is pure: bytes in, bytes out. It knows no socket, no clock and no randomness.
"""

from tokenferry.wire._codec import Codec, Sent, StreamTranslator, Tokens, WireFormat
from tokenferry.wire._envelope import SEALED, without_sealed
from tokenferry.wire._quirks import Quirks
from tokenferry.wire._sse import EventBoundary, end_of, parse, split
from tokenferry.wire._translation import codec
from tokenferry.wire.messages._errors import envelope, error_event

__all__ = [
    "SEALED",
    "Codec",
    "EventBoundary",
    "Quirks",
    "Sent",
    "StreamTranslator",
    "Tokens",
    "WireFormat",
    "codec",
    "end_of",
    "envelope",
    "error_event",
    "parse",
    "split",
    "without_sealed",
]
