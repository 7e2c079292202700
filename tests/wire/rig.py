"""What tests of the codecs share: requests and streams of either format, and readers of what came out."""

import json
from collections.abc import Iterable
from typing import Any

from tokenferry.wire import Codec, Quirks, Sent, StreamTranslator, codec, parse, split

DOMAIN = "up/model"
THIRD: dict[str, Any] = {"thinking": "level", "efforts": ("low", "medium", "high"), "documents": True}
"""What models of Gemini's third generation take."""


def to_chat(**quirks: Any) -> Codec:
    found = codec("anthropic", "openai", Quirks(**quirks), domain=DOMAIN)
    assert found is not None
    return found


def to_messages(**quirks: Any) -> Codec:
    found = codec("openai", "anthropic", Quirks(**quirks))
    assert found is not None
    return found


def to_responses(**quirks: Any) -> Codec:
    found = codec("anthropic", "openai-responses", Quirks(**quirks), domain=DOMAIN)
    assert found is not None
    return found


def from_responses(**quirks: Any) -> Codec:
    found = codec("openai-responses", "anthropic", Quirks(**quirks), domain=DOMAIN)
    assert found is not None
    return found


def to_gemini(**quirks: Any) -> Codec:
    """One of the third generation, unless something else is said."""
    found = codec("anthropic", "gemini", Quirks(**{**THIRD, **quirks}), domain=DOMAIN)
    assert found is not None
    return found


def ask(*messages: dict[str, Any], **fields: Any) -> bytes:
    """A Messages request; one that says hello where nothing else is given."""
    turns = list(messages) or [{"role": "user", "content": "hello"}]
    return json.dumps({"model": "claude", "max_tokens": 1000, "messages": turns, **fields}).encode()


def chat_ask(*messages: dict[str, Any], **fields: Any) -> bytes:
    """The same as a Chat request."""
    said = list(messages) or [{"role": "user", "content": "hello"}]
    return json.dumps({"model": "gpt", "messages": said, **fields}).encode()


def responses_ask(*items: dict[str, Any], **fields: Any) -> bytes:
    """The same as a request of Responses."""
    said = list(items) or [{"type": "message", "role": "user", "content": "hello"}]
    return json.dumps({"model": "gpt", "input": said, **fields}).encode()


def sent(body: bytes, using: Codec | None = None) -> tuple[dict[str, Any], Sent]:
    """What is sent for a request, as a document, and with what the codec remembers."""
    found = (using or to_chat()).request(body, "model", at=7)
    return json.loads(found.body), found


def chunk(delta: dict[str, Any] | None = None, finish: str | None = None, **fields: Any) -> bytes:
    """An event of a streamed Chat answer."""
    choices = [{"index": 0, "delta": delta or {}, "finish_reason": finish}]
    document = {"id": "chatcmpl-1", "model": "gpt", "choices": choices, **fields}
    return b"data: " + json.dumps(document, ensure_ascii=False).encode() + b"\n\n"


def fragment(index: int | None = None, /, **call: Any) -> dict[str, Any]:
    """A delta with a piece of a tool call: its `id`, `name` and `arguments`."""
    function = {name: call[name] for name in ("name", "arguments") if name in call}
    piece: dict[str, Any] = {"function": function}
    if index is not None:
        piece["index"] = index
    if "id" in call:
        piece["id"] = call["id"]
    return {"tool_calls": [piece]}


def gemini_event(*parts: dict[str, Any], finish: str | None = None, **fields: Any) -> bytes:
    """An event of a streamed Gemini answer, as the vendor writes them."""
    candidate: dict[str, Any] = {"content": {"parts": list(parts), "role": "model"}, "index": 0}
    if finish is not None:
        candidate["finishReason"] = finish
    document = {"candidates": [candidate], "modelVersion": "gemini-3", "responseId": "r1", **fields}
    return b"data: " + json.dumps(document, ensure_ascii=False).encode() + b"\r\n\r\n"


def named(kind: str, **fields: Any) -> bytes:
    """An event with its type as its name, as Messages and Responses have them."""
    return f"event: {kind}\ndata: {json.dumps({'type': kind, **fields}, ensure_ascii=False)}\n\n".encode()


DONE = b"data: [DONE]\n\n"
USAGE = {"prompt_tokens": 100, "completion_tokens": 20, "prompt_tokens_details": {"cached_tokens": 60}}


def chat_stream(*chunks: bytes, using: Codec | None = None, body: bytes | None = None) -> StreamTranslator:
    """A translator that was fed these chunks; `text` gives what came out."""
    found = using or to_chat()
    return found.stream(found.request(body or ask(stream=True), "model"), "req_1")


def translated(*chunks: bytes, using: Codec | None = None, body: bytes | None = None) -> bytes:
    """What a client gets of a Chat stream of these chunks that ended of its own accord."""
    stream = chat_stream(using=using, body=body)
    return b"".join(map(stream.feed, chunks)) + stream.end()


def events(text: bytes) -> list[dict[str, Any]]:
    """The data of events of Messages or Responses; their names agree with their types."""
    found = []
    for event in split(text):
        name, data = parse(event)
        if not data:
            continue
        found.append(json.loads(data))
        assert found[-1]["type"] == name
    return found


class Built:
    """A Messages answer as clients put it together: each block is begun, filled and ended before the next."""

    def __init__(self) -> None:
        self.message: dict[str, Any] = {}
        self._block: dict[str, Any] | None = None
        self._arguments = ""

    def take(self, event: dict[str, Any]) -> None:
        assert "over" not in self.message, "nothing follows message_stop"
        kind = event["type"]
        if kind.startswith("content_block"):
            assert event["index"] == len(self.message["content"])
            assert (self._block is None) == (kind == "content_block_start"), "one block at a time"
        getattr(self, kind, lambda event: None)(event)

    def message_start(self, event: dict[str, Any]) -> None:
        self.message = {**event["message"], "content": []}

    def content_block_start(self, event: dict[str, Any]) -> None:
        self._block, self._arguments = event["content_block"], ""

    def content_block_delta(self, event: dict[str, Any]) -> None:
        assert self._block is not None
        for name, value in event["delta"].items():
            if name == "partial_json":
                self._arguments += value
            elif name != "type":
                self._block[name] += value

    def content_block_stop(self, event: dict[str, Any]) -> None:
        assert self._block is not None
        if self._block["type"] == "tool_use":
            self._block["input"] = json.loads(self._arguments)
        self.message["content"].append(self._block)
        self._block = None

    def message_delta(self, event: dict[str, Any]) -> None:
        assert self._block is None
        assert self.message["stop_reason"] is None, "there is one message_delta"
        self.message |= event["delta"] | {"usage": event["usage"]}

    def message_stop(self, event: dict[str, Any]) -> None:
        assert self.message["stop_reason"] is not None
        self.message["over"] = True


def message(text: bytes) -> dict[str, Any]:
    """The message of whole events; `over` says that it ended well."""
    built = Built()
    for event in events(text):
        built.take(event)
    return built.message


def chunks(text: bytes) -> Iterable[dict[str, Any]]:
    """The data of Chat events but for `[DONE]`."""
    return [json.loads(data) for event in split(text) if (data := parse(event)[1]) not in {b"", b"[DONE]"}]


def from_gemini(**quirks: Any) -> Codec:
    found = codec("gemini", "anthropic", Quirks(**quirks), domain=DOMAIN)
    assert found is not None
    return found


def gemini_ask(*contents: dict[str, Any], **fields: Any) -> bytes:
    """A request of Gemini's, with what its path says beside what its body does."""
    said = list(contents) or [{"role": "user", "parts": [{"text": "hello"}]}]
    return json.dumps({"model": "gemini", "contents": said, **fields}).encode()
