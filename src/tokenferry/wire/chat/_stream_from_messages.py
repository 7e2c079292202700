"""The events of a Messages answer as a streamed Chat completion."""

from typing import Any, Final

import msgspec

from tokenferry.errors import UnreadableAnswer
from tokenferry.wire._codec import Sent, Tokens
from tokenferry.wire._faults import read_fault
from tokenferry.wire._json import encode
from tokenferry.wire._sse import EventBoundary, parse, split
from tokenferry.wire.chat._answer_from_messages import finish_reason, read_usage, usage_object
from tokenferry.wire.chat._errors import chat_error
from tokenferry.wire.chat._stream_to_messages import LONGEST_EVENT
from tokenferry.wire.messages._models import AnswerBlock, AnswerDelta, AnswerEvent

_decode: Final = msgspec.json.Decoder(AnswerEvent).decode
_PING: Final = b": ping\n\n"
_DONE: Final = b"data: [DONE]\n\n"
_EMPTY: Final = frozenset((b"", b"{}", b"null"))


class MessagesStreamToChat:
    """Passes each delta as a chunk; the last are the finish reason, the usage if it was asked for, and the end."""

    def __init__(self, sent: Sent) -> None:
        self.is_complete = False
        self.error: str | None = None
        self.usage = Tokens()
        self._sent = sent
        self._events = EventBoundary(LONGEST_EVENT)
        self._out: list[bytes] = []
        self._head = b""
        """Each chunk up to its delta."""
        self._stop: str | None = None
        self._calls: dict[int, int] = {}
        """The number of each tool call, by the index of its block."""
        self._without_arguments: set[int] = set()

    def feed(self, chunk: bytes) -> bytes:
        if self.is_complete or self.error is not None:
            return b""
        events = self._events.feed(chunk)
        if self._events.is_inside:
            return self.fail("an event of the upstream's answer is too long")
        return self._translated(split(events)) if events else b""

    def end(self) -> bytes:
        if self.is_complete or self.error is not None:
            return b""
        rest = self._events.rest()
        last = self._translated([rest]) if rest.endswith((b"\n", b"\r")) else b""
        return last + self.fail("the upstream ended the answer before it was complete")

    def fail(self, why: str) -> bytes:
        return self._fail(encode({"error": {"message": why}}))

    def _fail(self, data: bytes) -> bytes:
        if self.is_complete or self.error is not None:
            return b""
        fault = read_fault(data, None)
        assert fault is not None
        _, document = chat_error(fault)
        self.error = str(msgspec.json.decode(document)["error"]["type"])
        return b"data: %b\n\n" % document

    def _translated(self, events: list[bytes]) -> bytes:
        out = self._out = []
        try:
            for one in events:
                self._translate(one)
                if self.is_complete or self.error is not None:
                    break
        except UnreadableAnswer as fault:
            out.append(self.fail(str(fault)))
        return b"".join(out)

    def _translate(self, one: bytes) -> None:
        _, data = parse(one)
        if not data:
            return
        try:
            event = _decode(data)
        except (ValueError, RecursionError):
            raise UnreadableAnswer("the upstream sent an event that is no part of a message") from None
        match event.type:
            case "content_block_delta" if event.delta is not None and event.index is not None:
                self._add(event.index, event.delta)
            case "content_block_start" if event.content_block is not None and event.index is not None:
                self._begin(event.index, event.content_block)
            case "content_block_stop" if event.index in self._without_arguments:
                self._arguments(event.index, "{}")
            case "error":
                self._out.append(self._fail(data if event.error is not None else b'{"error":"the upstream failed"}'))
            case _:
                self._frame(event)

    def _frame(self, event: AnswerEvent) -> None:
        """Take an event that is about the message as a whole; others are of the server's own tools."""
        match event.type:
            case "message_start" if event.message is not None and not self._head:
                self._start(event.message.id, event.message.model)
                self.usage = read_usage(event.message.usage)
            case "message_delta":
                self.usage = read_usage(event.usage, self.usage)
                self._stop = self._stop if event.delta is None else event.delta.stop_reason
            case "message_stop":
                self._complete()
            case "ping":
                self._out.append(_PING)

    def _start(self, known: str, model: str) -> None:
        fields = {"id": known, "object": "chat.completion.chunk", "created": self._sent.at}
        fields["model"] = model or self._sent.model
        self._head = b"data: " + encode(fields)[:-1]
        self._chunk({"role": "assistant", "content": ""})

    def _chunk(self, delta: dict[str, Any], finish: str | None = None) -> None:
        if not self._head:
            raise UnreadableAnswer("the upstream's answer begins without message_start")
        choice = encode({"index": 0, "delta": delta, "logprobs": None, "finish_reason": finish})
        self._out.append(b'%b,"choices":[%b]}\n\n' % (self._head, choice))

    def _begin(self, index: int, block: AnswerBlock) -> None:
        if block.type == "tool_use":
            number = self._calls[index] = len(self._calls)
            name = self._sent.names.get(block.name or "", block.name or "")
            call = {"index": number, "id": block.id, "type": "function", "function": {"name": name, "arguments": ""}}
            self._chunk({"tool_calls": [call]})
            self._without_arguments.add(index)
            if bytes(block.input) not in _EMPTY:
                self._arguments(index, bytes(block.input).decode())
        elif block.type == "text" and block.text:
            self._chunk({"content": block.text})

    def _add(self, index: int, delta: AnswerDelta) -> None:
        if delta.type == "text_delta":
            self._chunk({"content": delta.text or ""})
        elif delta.type == "input_json_delta" and index in self._calls:
            if delta.partial_json:
                self._arguments(index, delta.partial_json)
        elif delta.type == "thinking_delta":
            self._chunk({"reasoning_content": delta.thinking or ""})

    def _arguments(self, index: int, text: str) -> None:
        self._without_arguments.discard(index)
        self._chunk({"tool_calls": [{"index": self._calls[index], "function": {"arguments": text}}]})

    def _complete(self) -> None:
        self._chunk({}, finish_reason(self._stop))
        if self._sent.wants_usage:
            self._out.append(b'%b,"choices":[],"usage":%b}\n\n' % (self._head, encode(usage_object(self.usage))))
        self._out.append(_DONE)
        self.is_complete = True
