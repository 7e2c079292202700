"""Writes the events of a streamed Messages answer."""

from typing import Any, Final

from tokenferry.wire._codec import Tokens
from tokenferry.wire._json import encode
from tokenferry.wire.messages._answer import message_document

STOP: Final = b'event: message_stop\ndata: {"type":"message_stop"}\n\n'
PING: Final = b'event: ping\ndata: {"type":"ping"}\n\n'


def event(kind: str, **fields: Any) -> bytes:
    return b"event: %b\ndata: %b\n\n" % (kind.encode(), encode({"type": kind, **fields}))


def message_start(known: str, model: str) -> bytes:
    """Give the first event. The token counts follow in `message_delta`."""
    message = message_document(known, model, [], None, Tokens())
    return event("message_start", message={**message, "usage": {"input_tokens": 0, "output_tokens": 0}})


_DELTA: Final = (
    b'event: content_block_delta\ndata: {"type":"content_block_delta","index":%d,"delta":{"type":"%b","%b":%b}}\n\n'
)


class BlockWriter:
    """Writes the blocks of an answer, one open at a time."""

    def __init__(self) -> None:
        self._index = -1
        self.kind = ""
        """The type of the open block; empty without one."""

    @property
    def is_empty(self) -> bool:
        """Whether no block has begun."""
        return self._index < 0

    def start(self, kind: str, **fields: Any) -> bytes:
        self._index += 1
        self.kind = kind
        return event("content_block_start", index=self._index, content_block={"type": kind, **fields})

    def text(self, text: str) -> bytes:
        return _DELTA % (self._index, b"text_delta", b"text", encode(text))

    def thinking(self, text: str) -> bytes:
        return _DELTA % (self._index, b"thinking_delta", b"thinking", encode(text))

    def arguments(self, text: str) -> bytes:
        return _DELTA % (self._index, b"input_json_delta", b"partial_json", encode(text))

    def stop(self, signature: str = "") -> bytes:
        """End the open block, if there is one. A thinking block gets the signature."""
        if not self.kind:
            return b""
        signed = self.kind == "thinking" and signature
        last = _DELTA % (self._index, b"signature_delta", b"signature", encode(signature)) if signed else b""
        self.kind = ""
        return last + event("content_block_stop", index=self._index)
