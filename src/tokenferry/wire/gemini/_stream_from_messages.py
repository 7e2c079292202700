"""Translates the events of a Messages answer to a streamed Gemini answer."""

from typing import Any, Final

from tokenferry.errors import UnreadableAnswer
from tokenferry.wire._codec import Sent
from tokenferry.wire._faults import UpstreamFault
from tokenferry.wire._json import encode, is_object
from tokenferry.wire.gemini._answer_from_messages import PartWriter, answer_document, finish_reason
from tokenferry.wire.gemini._errors import gemini_error, gemini_status
from tokenferry.wire.messages import _models as messages
from tokenferry.wire.messages._streams import EMPTY_INPUTS, MessagesReader

_MOST_HELD: Final = 32 * 1024 * 1024


class MessagesStreamToGemini(MessagesReader):
    """Passes each delta as an answer with one part. A call waits until its arguments are complete.

    The last event has the finish reason and the usage.
    """

    heartbeat = b""  # the SDKs read a comment as JSON

    def __init__(self, sent: Sent, domain: str) -> None:
        super().__init__(sent)
        self._parts = PartWriter(sent, domain)
        self._id = self._model = ""
        self._open: messages.AnswerBlock | None = None
        self._block = -1
        """The index of the open block."""
        self._texts: list[str] = []
        """The fragments of its thoughts or arguments."""
        self._held = 0

    def _error(self, fault: UpstreamFault) -> tuple[str, bytes]:
        code, document = gemini_error(fault)
        return gemini_status(code).lower(), b"data: %b\n\n" % document

    def _start(self, known: str, model: str) -> None:
        self._id, self._model = known, model

    def _write(self, parts: list[dict[str, Any]], **end: Any) -> None:
        if parts or end:
            self._out.append(b"data: %b\n\n" % encode(answer_document(self._id, self._model, parts, **end)))

    def _begin(self, index: int, block: messages.AnswerBlock) -> None:
        self._open, self._block, self._texts = block, index, []
        if block.type == "text":
            self._write(self._parts.text(block.text or ""))
        elif block.type == "tool_use" and bytes(block.input) not in EMPTY_INPUTS:
            self._hold_text(bytes(block.input).decode("utf-8", "replace"))
        elif block.type == "thinking" and block.thinking:
            self._think(block.thinking)

    def _add(self, index: int, delta: messages.AnswerDelta) -> None:
        if index != self._block or self._open is None:
            return
        if delta.type == "text_delta":
            self._write(self._parts.text(delta.text or ""))
        elif delta.type == "input_json_delta":
            self._hold_text(delta.partial_json or "")
        elif delta.type == "thinking_delta":
            self._think(delta.thinking or "")
        elif delta.type == "signature_delta":
            self._open.signature = (self._open.signature or "") + (delta.signature or "")

    def _think(self, text: str) -> None:
        self._hold_text(text)
        self._write(self._parts.thought(text))

    def _hold_text(self, text: str) -> None:
        self._texts.append(text)
        self._held += len(text)
        if self._held > _MOST_HELD:
            raise UnreadableAnswer(
                f"the upstream's answer has more than {_MOST_HELD:,} characters of thoughts and calls"
            )

    def _end_block(self, index: int) -> None:
        block = self._open
        if block is None or index != self._block:
            return
        self._open = None
        text = "".join(self._texts)
        match block.type:
            case "thinking":
                self._parts.think(messages.ThinkingContent(thinking=text, signature=block.signature or ""))
            case "redacted_thinking":
                self._parts.think(messages.RedactedThinkingContent(data=block.data or ""))
            case "tool_use":
                text = text or "{}"
                if is_object(text):
                    self._write([self._parts.call(block, text.encode())])

    def _complete(self) -> None:
        self._write(self._parts.rest(), reason=finish_reason(self._stop), counted=self.usage)
