"""Translates the events of a Messages answer to a streamed Responses answer."""

from typing import Any, Final, Literal

from tokenferry.errors import UnreadableAnswer
from tokenferry.wire._codec import ClientTool, Sent
from tokenferry.wire._faults import UpstreamFault
from tokenferry.wire._json import encode, is_object
from tokenferry.wire._openai_errors import words_of_fault
from tokenferry.wire.messages._models import AnswerBlock, AnswerDelta
from tokenferry.wire.messages._streams import EMPTY_INPUTS, MessagesReader
from tokenferry.wire.responses._output import (
    ItemStatus,
    call_item,
    custom_input,
    end_fields,
    item_id,
    message_item,
    reasoning_item,
    response_document,
    response_id,
    text_part,
)
from tokenferry.wire.responses._reasoning import sealed_redacted, sealed_thinking

_MOST_HELD: Final = 32 * 1024 * 1024
_DELTA: Final = b'event: %b\ndata: {"type":"%b","sequence_number":%d,"item_id":"%b","output_index":%d%b,"delta":%b}\n\n'


class _OpenItem:
    """The item that is written now."""

    __slots__ = ("call", "id", "index", "kind", "mark", "texts", "tool")

    def __init__(self, kind: Literal["message", "reasoning", "call"], known: str, index: int) -> None:
        self.kind = kind
        self.id = known
        self.index = index
        self.texts: list[str] = []
        self.mark = ""
        """The encrypted content of reasoning."""
        self.call = ""
        self.tool = ClientTool("")

    @property
    def place(self) -> dict[str, Any]:
        return {"item_id": self.id, "output_index": self.index}


class MessagesStreamToResponses(MessagesReader):
    """Passes each delta as one of its item. Clients wait for the last event: `completed`, `incomplete` or `failed`.

    A custom tool's input passes when it is complete, since it arrives within JSON.
    """

    heartbeat = b": ping\n\n"

    def __init__(self, sent: Sent, domain: str, request_id: str) -> None:
        super().__init__(sent)
        self._domain = domain
        self._id = response_id(request_id)
        self._model = sent.model
        self._sequence = 0
        self._output: list[dict[str, Any]] = []
        self._item: _OpenItem | None = None
        self._block = -1
        """The index of the block that writes the open item."""
        self._held = 0

    def _error(self, fault: UpstreamFault) -> tuple[str, bytes]:
        _, kind, code = words_of_fault(fault)
        error = {"code": code or kind, "message": fault.message}
        document = self._document(status="failed", error=error, output=self._output)
        return kind, self._event("response.failed", response=document)

    def _document(self, **fields: Any) -> dict[str, Any]:
        return response_document(self._id, self._model, self._sent, **fields)

    def _event(self, kind: str, **fields: Any) -> bytes:
        document = {"type": kind, "sequence_number": self._sequence, **fields}
        self._sequence += 1
        return b"event: %b\ndata: %b\n\n" % (kind.encode(), encode(document))

    def _write(self, kind: str, **fields: Any) -> None:
        self._out.append(self._event(kind, **fields))

    def _delta(self, kind: bytes, item: _OpenItem, within: bytes, text: str) -> None:
        self._held += len(text)
        if self._held > _MOST_HELD:
            raise UnreadableAnswer(f"the upstream's answer has more than {_MOST_HELD:,} characters")
        item.texts.append(text)
        values = (kind, kind, self._sequence, item.id.encode(), item.index, within, encode(text))
        self._out.append(_DELTA % values)
        self._sequence += 1

    def _start(self, known: str, model: str) -> None:
        self._id, self._model = response_id(known) if known else self._id, model
        self._write("response.created", response=self._document())
        self._write("response.in_progress", response=self._document())

    def _begin(self, index: int, block: AnswerBlock) -> None:
        self._block = index
        match block.type:
            case "text":
                if block.text:
                    self._text(block.text)
            case "thinking":
                self._open("reasoning", "rs")
                self._think(block.thinking or "")
            case "redacted_thinking":
                item = self._open("reasoning", "rs")
                item.mark = sealed_redacted(self._domain, block.data)
            case "tool_use":
                self._call(block)
            case _:
                self._close()
                self._block = -1

    def _add(self, index: int, delta: AnswerDelta) -> None:
        if index != self._block:
            return
        item = self._item
        if delta.type == "text_delta":
            self._text(delta.text or "")
        elif item is None:
            return
        elif delta.type == "input_json_delta" and item.kind == "call":
            self._arguments(item, delta.partial_json or "")
        elif delta.type == "thinking_delta" and item.kind == "reasoning":
            self._think(delta.thinking or "")
        elif delta.type == "signature_delta" and item.kind == "reasoning":
            item.mark = sealed_thinking(self._domain, delta.signature)

    def _end_block(self, index: int) -> None:
        if index == self._block and self._item is not None and self._item.kind != "message":
            self._close()

    def _complete(self) -> None:
        self._close()
        fields = end_fields(self._stop, self._output, self.usage)
        self._write(f"response.{fields['status']}", response=self._document(**fields))

    def _open(self, kind: Literal["message", "reasoning", "call"], prefix: str) -> _OpenItem:
        self._close()
        index = len(self._output)
        item = self._item = _OpenItem(kind, item_id(prefix, self._id, index), index)
        if kind == "message":
            begun = message_item(item.id, "", "in_progress")
            self._write("response.output_item.added", output_index=index, item=begun)
            self._write("response.content_part.added", **item.place, content_index=0, part=text_part(""))
        elif kind == "reasoning":
            self._write("response.output_item.added", output_index=index, item=reasoning_item(item.id, "", ""))
        return item

    def _text(self, text: str) -> None:
        """Add to the open message, or begin one: Claude splits a text at citations."""
        if text:
            item = self._item
            if item is None or item.kind != "message":
                item = self._open("message", "msg")
            self._delta(b"response.output_text.delta", item, b',"content_index":0,"logprobs":[]', text)

    def _think(self, text: str) -> None:
        item = self._item
        if not text or item is None:
            return
        if not item.texts:
            part = {"type": "summary_text", "text": ""}
            self._write("response.reasoning_summary_part.added", **item.place, summary_index=0, part=part)
        self._delta(b"response.reasoning_summary_text.delta", item, b',"summary_index":0', text)

    def _call(self, block: AnswerBlock) -> None:
        item = self._open("call", "fc")
        item.call = block.id or ""
        item.tool = self._sent.tools.get(block.name or "") or ClientTool(block.name or "")
        begun = call_item(item.id, item.call, item.tool, "", "in_progress")
        self._write("response.output_item.added", output_index=item.index, item=begun)
        if bytes(block.input) not in EMPTY_INPUTS:
            self._arguments(item, bytes(block.input).decode("utf-8", "replace"))

    def _arguments(self, item: _OpenItem, text: str) -> None:
        if item.tool.is_custom:
            self._held += len(text)
            if self._held > _MOST_HELD:
                raise UnreadableAnswer(f"the upstream's answer has more than {_MOST_HELD:,} characters")
            item.texts.append(text)
        elif text:
            self._delta(b"response.function_call_arguments.delta", item, b"", text)

    def _close(self) -> None:
        """End the open item, if there is one."""
        item, self._item = self._item, None
        if item is None:
            return
        text = "".join(item.texts)
        match item.kind:
            case "message":
                self._write("response.output_text.done", **item.place, content_index=0, text=text, logprobs=[])
                self._write("response.content_part.done", **item.place, content_index=0, part=text_part(text))
                done = message_item(item.id, text)
            case "reasoning":
                if text:
                    part = {"type": "summary_text", "text": text}
                    self._write("response.reasoning_summary_text.done", **item.place, summary_index=0, text=text)
                    self._write("response.reasoning_summary_part.done", **item.place, summary_index=0, part=part)
                done = reasoning_item(item.id, text, item.mark)
            case "call":
                done = self._called(item, text)
        self._output.append(done)
        self._write("response.output_item.done", output_index=item.index, item=done)

    def _called(self, item: _OpenItem, text: str) -> dict[str, Any]:
        text = text or "{}"
        status: ItemStatus = "completed" if is_object(text) else "incomplete"
        if item.tool.is_custom:
            text = custom_input(text)
            self._write("response.custom_tool_call_input.delta", **item.place, delta=text)
            self._write("response.custom_tool_call_input.done", **item.place, input=text)
        else:
            self._write("response.function_call_arguments.done", **item.place, arguments=text)
        return call_item(item.id, item.call, item.tool, text, status)
