"""Translates the events of a Messages answer to a streamed Chat completion."""

from typing import Any, Final

from tokenferry.wire._codec import Sent
from tokenferry.wire._faults import UpstreamFault
from tokenferry.wire._json import encode
from tokenferry.wire._openai_errors import openai_error, words_of_fault
from tokenferry.wire.chat._answer_from_messages import finish_reason, usage_object
from tokenferry.wire.messages._models import AnswerBlock, AnswerDelta
from tokenferry.wire.messages._streams import EMPTY_INPUTS, MessagesReader

_DONE: Final = b"data: [DONE]\n\n"


class MessagesStreamToChat(MessagesReader):
    """Passes each delta as a chunk. The finish reason, the usage if asked for, and `[DONE]` are the last chunks."""

    heartbeat = b": ping\n\n"

    def __init__(self, sent: Sent) -> None:
        super().__init__(sent)
        self._head = b""
        """The beginning of each chunk, up to its choices."""
        self._calls: dict[int, int] = {}
        """The number of each tool call, by the index of its block."""
        self._without_arguments: set[int] = set()

    def _error(self, fault: UpstreamFault) -> tuple[str, bytes]:
        return words_of_fault(fault)[1], b"data: %b\n\n" % openai_error(fault)[1]

    def _start(self, known: str, model: str) -> None:
        fields = {"id": known, "object": "chat.completion.chunk", "created": self._sent.at}
        fields["model"] = model
        self._head = b"data: " + encode(fields)[:-1]
        self._chunk({"role": "assistant", "content": ""})

    def _chunk(self, delta: dict[str, Any], finish: str | None = None) -> None:
        choice = encode({"index": 0, "delta": delta, "logprobs": None, "finish_reason": finish})
        self._out.append(b'%b,"choices":[%b]}\n\n' % (self._head, choice))

    def _begin(self, index: int, block: AnswerBlock) -> None:
        if block.type == "tool_use":
            number = self._calls[index] = len(self._calls)
            name = self._sent.names.get(block.name or "", block.name or "")
            call = {"index": number, "id": block.id, "type": "function", "function": {"name": name, "arguments": ""}}
            self._chunk({"tool_calls": [call]})
            self._without_arguments.add(index)
            if bytes(block.input) not in EMPTY_INPUTS:
                self._arguments(index, bytes(block.input).decode("utf-8", "replace"))
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

    def _end_block(self, index: int) -> None:
        if index in self._without_arguments:
            self._arguments(index, "{}")

    def _arguments(self, index: int, text: str) -> None:
        self._without_arguments.discard(index)
        self._chunk({"tool_calls": [{"index": self._calls[index], "function": {"arguments": text}}]})

    def _complete(self) -> None:
        self._chunk({}, finish_reason(self._stop))
        if self._sent.wants_usage:
            self._out.append(b'%b,"choices":[],"usage":%b}\n\n' % (self._head, encode(usage_object(self.usage))))
        self._out.append(_DONE)
