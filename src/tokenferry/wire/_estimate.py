"""Estimates a request's tokens by its length, for upstreams that don't count them and before one is chosen."""

import math
import re
from typing import Final

from msgspec import Struct

BYTES_PER_TOKEN: Final = 3.3
"""For JSON with code, at an unknown model. English has more bytes per token, so an estimate is rather too high."""

SMALLEST_FILE: Final = 1024
"""The fewest base64 characters that count as an inline file."""
_INLINE: Final = re.compile(
    rb'(?:"data"\s{0,10}:\s{0,10}"|"data:[^"]{0,100};base64,)((?:[A-Za-z0-9+/]|\\/){%d,}={0,2})"' % SMALLEST_FILE
)
_INLINE_START: Final = b'"data'
_PDF: Final = b"JVBERi0"
_IMAGE_TOKENS: Final = 1600
"""Tokens of the largest image that models read; larger ones are scaled down."""
_PDF_BYTES_PER_TOKEN: Final = 30


class BodySize(Struct, frozen=True):
    """The size of a request's body."""

    text: int
    """Bytes, without inline files."""
    inline_tokens: int = 0
    """Tokens of inline images and documents."""

    def tokens(self, bytes_per_token: float = BYTES_PER_TOKEN) -> int:
        """Give the tokens of the whole body, rounded up."""
        return math.ceil(self.text / bytes_per_token) + self.inline_tokens


def measure(body: bytes) -> BodySize:
    """Measure a request's body in any format, without decoding it."""
    text, tokens = len(body), 0
    if body.find(_INLINE_START) < 0:  # most bodies, and this search costs a tenth
        return BodySize(text)
    for found in _INLINE.finditer(body):
        data = found[1]
        text -= len(data)
        tokens += math.ceil(len(data) / _PDF_BYTES_PER_TOKEN) if data.startswith(_PDF) else _IMAGE_TOKENS
    return BodySize(text, tokens)
