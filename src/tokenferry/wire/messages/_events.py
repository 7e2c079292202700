"""Writes the events of a streamed Messages answer, one block open at a time."""

from typing import Any, Final

from tokenferry.wire._json import encode

STOP: Final = b'event: message_stop\ndata: {"type":"message_stop"}\n\n'
PING: Final = b'event: ping\ndata: {"type":"ping"}\n\n'


def event(kind: str, **fields: Any) -> bytes:
    return b"event: %b\ndata: %b\n\n" % (kind.encode(), encode({"type": kind, **fields}))


def message_start(known: str, model: str) -> bytes:
    """The first event; what was counted comes with the last but one."""
    message: dict[str, Any] = {
        "id": known,
        "type": "message",
        "role": "assistant",
        "model": model,
        "content": [],
        "stop_reason": None,
        "stop_sequence": None,
        "usage": {"input_tokens": 0, "output_tokens": 0},
    }
    return event("message_start", message=message)


_DELTA: Final = (
    b'event: content_block_delta\ndata: {"type":"content_block_delta","index":%d,"delta":{"type":"%b","%b":%b}}\n\n'
)


class BlockWriter:
    """The blocks of an answer, each begun, filled and ended before the next."""

    def __init__(self) -> None:
        self._index = -1
        self.kind = ""
        """Of the block that is open; empty if none is."""

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
        """End the open block, a thinking block with its signature; nothing if none is open."""
        if not self.kind:
            return b""
        signed = self.kind == "thinking" and signature
        last = _DELTA % (self._index, b"signature_delta", b"signature", encode(signature)) if signed else b""
        self.kind = ""
        return last + event("content_block_stop", index=self._index)
