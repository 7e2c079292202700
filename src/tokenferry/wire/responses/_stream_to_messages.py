"""Translates a streamed Responses answer to the events of the Messages API."""

from typing import Any, Final, Literal, TypeAlias

import msgspec

from tokenferry.errors import UnreadableAnswer
from tokenferry.wire._codec import Sent
from tokenferry.wire._faults import UNEXPLAINED, read_fault
from tokenferry.wire._ids import AnswerIds
from tokenferry.wire._json import answer_decoder, encode, is_object, json_text
from tokenferry.wire.messages._streams import MessagesWriter
from tokenferry.wire.responses._meaning import fault_of, message_text, reasoning_text, stop_reason, tokens
from tokenferry.wire.responses._models import AnswerItem, ResponsesAnswer, ResponsesEvent
from tokenferry.wire.responses._reasoning import sealed_item

_MOST_HELD: Final = 8 * 1024 * 1024
_MOST_ITEMS: Final = 1000

_decode: Final = answer_decoder(ResponsesEvent)

_BlockKind: TypeAlias = Literal["text", "thinking", "tool_use"]
_KINDS: Final[dict[str, _BlockKind]] = {"message": "text", "reasoning": "thinking", "function_call": "tool_use"}
_DELTAS: Final[dict[str, _BlockKind]] = {
    "response.output_text.delta": "text",
    "response.refusal.delta": "text",
    "response.reasoning_summary_text.delta": "thinking",
    "response.reasoning_text.delta": "thinking",
    "response.function_call_arguments.delta": "tool_use",
}
_WHOLE: Final = {
    "response.output_text.done": "text",
    "response.refusal.done": "refusal",
    "response.reasoning_summary_text.done": "text",
    "response.reasoning_text.done": "text",
    "response.function_call_arguments.done": "arguments",
}
"""Events that repeat streamed text as a whole, and the field that holds it."""
_ENDS: Final = frozenset(("response.completed", "response.incomplete"))


class _StreamedItem:
    """An item of the answer. Its pieces may arrive between those of other items."""

    __slots__ = ("arguments", "id", "is_begun", "is_done", "kind", "mark", "name", "source", "summary", "waiting")

    def __init__(self, kind: _BlockKind | None) -> None:
        self.kind = kind
        """The kind of its block; None for an item of a server tool, which is skipped."""
        self.id = ""
        """The id of a call."""
        self.name = ""
        self.mark = ""
        """The signature of a thinking block."""
        self.source = ""
        """The type of the events with its pieces. Events of another type repeat them."""
        self.summary = 0
        """The index of the last part of the summary."""
        self.waiting: list[str] = []
        """Pieces that are not written yet."""
        self.arguments: list[str] = []
        """All pieces of a call's arguments."""
        self.is_begun = False
        """Whether its block has begun."""
        self.is_done = False


class ResponsesStreamToMessages(MessagesWriter):
    """Passes the pieces of the first unfinished item as they arrive.

    Pieces of other items wait: a block of the Messages API ends before the next begins.
    """

    def __init__(self, sent: Sent, domain: str, request_id: str) -> None:
        super().__init__(sent, request_id)
        self._domain = domain
        self._items: list[_StreamedItem] = []
        self._by_key: dict[int | str | None, _StreamedItem] = {}
        self._ids = AnswerIds()
        self._open = 0
        """The index of the first item that is not completely written."""
        self._held = 0
        self._has_calls = self._is_refused = False

    def _translate(self, data: bytes) -> None:
        if data.strip() == b"[DONE]":
            return
        try:
            event = _decode(data)
        except (ValueError, RecursionError):
            raise UnreadableAnswer("the upstream sent an event that is not part of an answer") from None
        kind = event.type
        if (block := _DELTAS.get(kind)) is not None:
            self._add(event, block)
        elif event.item is not None:
            self._take(event, event.item)
        elif (field := _WHOLE.get(kind)) is not None:
            item = self._by_key.get(_key(event, event.item_id))
            if item is not None and item.source in {"", kind} and (text := getattr(event, field)):
                self._append(item, text, kind, event.summary_index)
        elif kind in {"error", "response.failed"}:
            fault = None if event.response is None else fault_of(event.response)
            self._out.append(self._fail(fault or read_fault(_as_error(data)) or UNEXPLAINED))
        elif event.response is not None:
            self._frame(event.response, kind)

    def _frame(self, answer: ResponsesAnswer, kind: str) -> None:
        """Handle an event that concerns the whole answer."""
        if not self._is_started:
            self._start(answer.id, answer.model)
        if answer.usage is not None:
            self.usage = tokens(answer.usage)
        if kind in _ENDS:
            if (fault := fault_of(answer)) is not None:
                self._out.append(self._fail(fault))
                return
            answer.status = kind.removeprefix("response.")
            self._complete(answer)

    def _add(self, event: ResponsesEvent, kind: _BlockKind) -> None:
        item = self._item(_key(event, event.item_id), kind)
        if item.is_done:
            raise UnreadableAnswer("the upstream's answer adds to a complete item")
        if item.source not in {"", event.type} and kind == "thinking":
            return  # the reasoning itself beside its summary, or the other way round
        self._append(item, event.delta, event.type, event.summary_index)

    def _take(self, event: ResponsesEvent, received: AnswerItem) -> None:
        """Handle the beginning or the end of an item."""
        is_new = event.type == "response.output_item.added"
        item = self._item(_key(event, received.id), _KINDS.get(received.type), call=received.call_id, is_new=is_new)
        item.id = item.id or received.call_id or ""
        item.name = item.name or received.name or ""
        if event.type == "response.output_item.done":
            self._finish(item, received)
        self._write()

    def _item(
        self, key: int | str | None, kind: _BlockKind | None, *, call: str | None = None, is_new: bool = False
    ) -> _StreamedItem:
        """Give the item with this index or id, or the last one without either; a new one if that can't be meant.

        Upstreams leave out indexes, or use one twice.
        """
        item = self._items[-1] if key is None and self._items else self._by_key.get(key)
        if item is not None and item.kind == kind:
            is_other = item.is_done and (is_new or key is None)
            if not (is_other or (call and item.id and call != item.id)):
                return item
        if len(self._items) >= _MOST_ITEMS:
            raise UnreadableAnswer(f"the upstream's answer has more than {_MOST_ITEMS:,} items")
        item = self._by_key[key] = _StreamedItem(kind)
        self._items.append(item)
        return item

    def _append(self, item: _StreamedItem, text: Any, source: str, summary: int | None = None) -> None:
        """Add a piece. `summary` is the index of the part of the summary that it belongs to."""
        if not isinstance(text, str):
            raise UnreadableAnswer("the upstream sent an event whose text is not a string")
        if not text:
            return
        if summary is not None and summary != item.summary:
            item.summary = summary
            text = f"\n\n{text}" if item.source else text
        item.source = source
        self._is_refused |= source.startswith("response.refusal.")
        if item.kind == "tool_use":
            self._hold(text)
            item.arguments.append(text)
        if item.is_begun and item is self._items[self._open]:
            self._pass(item, text)
        else:
            self._hold(text)
            item.waiting.append(text)
            self._write()

    def _hold(self, text: str) -> None:
        self._held += len(text)
        if self._held > _MOST_HELD:
            raise UnreadableAnswer(
                f"the upstream's calls, and items out of order, have more than {_MOST_HELD:,} characters"
            )

    def _finish(self, item: _StreamedItem, received: AnswerItem) -> None:
        """End an item. The final item supplies its text if no pieces arrived."""
        if item.is_done:
            return
        if not item.source:
            self._append(item, self._whole(item, received), "response.output_item.done")
        if item.kind == "thinking" and (item.source or received.encrypted_content):
            item.mark = sealed_item(self._domain, received.id, received.encrypted_content)
        item.is_done = True

    def _whole(self, item: _StreamedItem, received: AnswerItem) -> Any:
        match item.kind:
            case "text":
                text, is_refused = message_text(received)
                self._is_refused |= is_refused
                return text
            case "thinking":
                return reasoning_text(received)
            case "tool_use":
                return json_text(received.arguments)
        return ""

    def _write(self) -> None:
        """Write the open item, and those after it up to the first that is not done."""
        while self._open < len(self._items):
            item = self._items[self._open]
            if self._may_begin(item):
                if not item.is_begun:
                    self._begin(item)
                if item.waiting:
                    self._pass(item, "".join(item.waiting))
                    item.waiting = []
            if not item.is_done:
                return
            if item.is_begun:
                self._out.append(self._blocks.stop(item.mark))
            self._open += 1

    def _may_begin(self, item: _StreamedItem) -> bool:
        """Whether the item has content: the API refuses empty blocks when the client sends them back."""
        if item.kind == "tool_use":
            if not item.name and item.is_done:
                raise UnreadableAnswer("the upstream's answer calls a tool without its name")
            return bool(item.name)
        return item.kind is not None and bool(item.source or item.mark)

    def _begin(self, item: _StreamedItem) -> None:
        if not self._is_started:
            self._start(None, None)
        item.is_begun = True
        blocks = self._blocks
        if item.kind == "text":
            self._out.append(blocks.start("text", text=""))
        elif item.kind == "thinking":
            self._out.append(blocks.start("thinking", thinking="", signature=""))
        else:
            self._has_calls = True
            known = self._ids.give(self._id, item.id)
            name = self._sent.names.get(item.name, item.name)
            self._out.append(blocks.start("tool_use", id=known, name=name, input={}))

    def _pass(self, item: _StreamedItem, text: str) -> None:
        blocks = self._blocks
        if item.kind == "text":
            self._out.append(blocks.text(text))
        elif item.kind == "thinking":
            self._out.append(blocks.thinking(text))
        else:
            self._out.append(blocks.arguments(text))

    def _complete(self, answer: ResponsesAnswer) -> None:
        if not self._items:  # some upstreams send everything at the end
            for place, received in enumerate(answer.output or ()):
                self._take(ResponsesEvent(type="response.output_item.done", output_index=place), received)
        for item in self._items:
            if item.kind == "tool_use":
                if not item.source:
                    self._append(item, "{}", "")
                if answer.status == "completed" and not is_object("".join(item.arguments)):
                    raise UnreadableAnswer(
                        f"the arguments of the model's call of {item.name[:80]!r} are not a JSON object"
                    )
            item.is_done = True
        self._write()
        self._stop(stop_reason(answer, has_calls=self._has_calls, is_refused=self._is_refused))


def _key(event: ResponsesEvent, known: str | None) -> int | str | None:
    return known if event.output_index is None else event.output_index


def _as_error(data: bytes) -> bytes:
    """Give the data of an `error` event, whose fields may be at the top, as an error document."""
    document = msgspec.json.decode(data)
    return encode(document if document.get("error") else {"error": document})
