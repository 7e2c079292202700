import json
import re
from collections.abc import Iterator
from typing import Any

from tokenferry.sandbox._http import Event

_PIECE = re.compile(r"\s*\S{1,40}\s*")


def pieces(text: str) -> list[str]:
    """Split a text into words, which the sandbox counts as tokens."""
    return _PIECE.findall(text) or [text]


def events(message: dict[str, Any]) -> list[Event]:
    """Convert a whole message to the stream that the API would send."""
    usage = message["usage"]
    head = message | {"content": [], "stop_reason": None, "usage": usage | {"output_tokens": 1}}
    written = [_event("message_start", message=head), _event("ping")]
    for index, block in enumerate(message["content"]):
        written.append(_event("content_block_start", index=index, content_block=_empty(block)))
        written += [_event("content_block_delta", index=index, delta=delta) for delta in _deltas(block)]
        written.append(_event("content_block_stop", index=index))
    stop = {"stop_reason": message["stop_reason"], "stop_sequence": None}
    return [*written, _event("message_delta", delta=stop, usage=usage), _event("message_stop")]


def error_event(kind: str, message: str) -> Event:
    return _event("error", error={"type": kind, "message": message})


def _event(name: str, **data: Any) -> Event:
    return Event(name, {"type": name, **data})


def _empty(block: dict[str, Any]) -> dict[str, Any]:
    empty: dict[str, Any]
    match block["type"]:
        case "text":
            empty = {"text": ""} | ({"citations": []} if "citations" in block else {})
        case "thinking":
            empty = {"thinking": "", "signature": ""}
        case _:
            empty = {"input": {}}
    return block | empty


def _deltas(block: dict[str, Any]) -> Iterator[dict[str, Any]]:
    match block["type"]:
        case "text":
            for piece in pieces(block["text"]):
                yield {"type": "text_delta", "text": piece}
            for citation in block.get("citations") or ():
                yield {"type": "citations_delta", "citation": citation}
        case "thinking":
            for piece in pieces(block["thinking"]):
                yield {"type": "thinking_delta", "thinking": piece}
            yield {"type": "signature_delta", "signature": block["signature"]}
        case _:
            text = json.dumps(block["input"], ensure_ascii=False)
            yield {"type": "input_json_delta", "partial_json": ""}
            for start in range(0, len(text), 7):
                yield {"type": "input_json_delta", "partial_json": text[start : start + 7]}
