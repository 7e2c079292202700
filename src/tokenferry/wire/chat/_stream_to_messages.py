"""Translates a streamed Chat completion to the events of the Messages API."""

from typing import Final

from tokenferry.errors import UnreadableAnswer
from tokenferry.wire._codec import Sent
from tokenferry.wire._envelope import seal
from tokenferry.wire._faults import UNEXPLAINED, read_fault
from tokenferry.wire._ids import AnswerIds
from tokenferry.wire._json import answer_decoder, is_object, json_text
from tokenferry.wire._think_tag import ThinkTag
from tokenferry.wire.chat._meaning import CUT_SHORT, content, reasoning, stop_reason, tokens
from tokenferry.wire.chat._models import CalledFunction, CalledTool, ChatAnswer, ChatDelta
from tokenferry.wire.messages._streams import MessagesWriter

_MOST_HELD: Final = 8 * 1024 * 1024
_MOST_CALLS: Final = 1000

_decode: Final = answer_decoder(ChatAnswer)


class _Call:
    """A tool call. Its fragments may arrive between those of other calls."""

    __slots__ = ("_checked", "_is_object", "arguments", "id", "is_ended", "is_written", "name", "written")

    def __init__(self) -> None:
        self.id = ""
        self.name = ""
        self.arguments: list[str] = []
        self.written = 0
        """The number of argument fragments that were written."""
        self.is_written = False
        """Whether its block has begun."""
        self.is_ended = False
        self._checked = 0
        self._is_object = False

    @property
    def is_whole(self) -> bool:
        """Whether the call has a name and complete arguments."""
        if self._checked != len(self.arguments):
            text = "".join(self.arguments)
            self._checked = len(self.arguments)
            self._is_object = text.rstrip().endswith("}") and is_object(text)
        return bool(self.name) and self._is_object


class ChatStreamToMessages(MessagesWriter):
    """Passes text and the arguments of the open call as they arrive.

    Fragments of other calls wait, and so does text while a call is incomplete: a block of the Messages API ends before
    the next begins.
    """

    def __init__(self, sent: Sent, domain: str, request_id: str, *, think_tag: bool) -> None:
        super().__init__(sent, request_id)
        self._signature = seal(domain)
        self._tag = ThinkTag() if think_tag else None
        self._is_refused = False
        self._finish: str | None = None
        self._may_have_failed = False
        """Whether an event had neither choices nor usage: an error of unknown form, unless a finish reason follows."""
        self._calls: list[_Call] = []
        self._by_index: dict[int, _Call] = {}
        self._ids = AnswerIds()
        self._open = 0
        """The index of the first call that is not completely written."""
        self._late: list[str] = []
        """Text that arrived while a call was incomplete."""
        self._held = 0

    def _ended(self) -> None:
        if self._finish is None:
            super()._ended()
        self._complete()

    def _translate(self, data: bytes) -> None:
        if data.strip() == b"[DONE]":
            self._complete()
            return
        try:
            chunk = _decode(data)
        except (ValueError, RecursionError):
            raise UnreadableAnswer("the upstream sent an event that is not part of a Chat completion") from None
        is_bare = chunk.choices is None and chunk.usage is None
        if (chunk.error or chunk.base_resp or is_bare) and (fault := read_fault(data)) is not None:
            self._out.append(self._fail(fault))
        elif is_bare:
            self._may_have_failed = True
        else:
            self._take(chunk)

    def _take(self, chunk: ChatAnswer) -> None:
        if chunk.usage is not None:
            self.usage = tokens(chunk.usage)
        if not chunk.choices:
            if chunk.usage is not None and self._finish is not None:
                self._complete()
            return
        if not self._is_started:
            self._start(chunk.id, chunk.model)
        choice = chunk.choices[0]
        if choice.index:
            return
        if choice.delta is not None:
            self._add(choice.delta)
        if choice.finish_reason is not None:
            self._finish = choice.finish_reason
            if self._finish == "error":
                raise UnreadableAnswer("the upstream ended the answer with an error")

    def _add(self, delta: ChatDelta) -> None:
        given = delta.content
        thoughts, text = ("", given) if isinstance(given, str) else content(delta)
        if thoughts := reasoning(delta) or thoughts:
            self._text(thoughts, "thinking")
        if text:
            if self._tag is None:
                self._text(text, "text")
            else:
                for is_thought, part in self._tag.feed(text):
                    self._text(part, "thinking" if is_thought else "text")
        if delta.refusal:
            self._is_refused = True
            self._text(delta.refusal, "text")
        for call in delta.tool_calls or ():
            self._call(call)
        if delta.function_call is not None:
            self._call(CalledTool(index=0, function=delta.function_call))

    def _text(self, text: str, kind: str) -> None:
        blocks = self._blocks
        if blocks.kind == kind:
            self._out.append(blocks.text(text) if kind == "text" else blocks.thinking(text))
            return
        if self._open < len(self._calls):
            if kind == "text":
                self._hold(text)
                self._late.append(text)
            if not all(call.is_whole for call in self._calls[self._open :]):
                return  # thinking within a call is left out: its block would have to precede the call
            self._write_calls()
            if kind == "text":
                return
        if blocks.kind:
            self._out.append(blocks.stop(self._signature))
        if kind == "text":
            self._out.append(blocks.start("text", text=""))
            self._out.append(blocks.text(text))
        else:
            self._out.append(blocks.start("thinking", thinking="", signature=""))
            self._out.append(blocks.thinking(text))

    def _call(self, given: CalledTool) -> None:
        function = given.function or CalledFunction()
        call = self._called(given, function)
        if call.is_ended:
            if function.arguments and not json_text(function.arguments).isspace():
                raise UnreadableAnswer("the upstream's answer adds to a complete tool call")
            return
        call.id = call.id or given.id or ""
        call.name = call.name or function.name or ""
        if function.arguments:
            arguments = json_text(function.arguments)
            self._hold(arguments)
            call.arguments.append(arguments)
        first = self._calls[self._open]
        if call is not first and first.is_whole:
            self._write(first)
            self._end_call()
            first = self._calls[self._open]
        if call is first and call.name:
            self._write(call)

    def _called(self, given: CalledTool, function: CalledFunction) -> _Call:
        """Give the call of a fragment. Vendors leave out indexes and ids, or use an index twice."""
        index, name = given.index, function.name
        if index is not None:
            call = self._by_index.get(index)
        elif given.id:
            call = next((one for one in self._calls if one.id == given.id), None)
        else:
            call = self._calls[-1] if self._calls else None
        if call is not None:
            if given.id and call.id:
                is_other = given.id != call.id
            else:
                is_other = bool(name and call.name) and (name != call.name or call.is_whole)
            if not is_other:
                return call
        if len(self._calls) >= _MOST_CALLS:
            raise UnreadableAnswer(f"the upstream's answer has more than {_MOST_CALLS:,} tool calls")
        call = _Call()
        self._calls.append(call)
        if index is not None:
            self._by_index[index] = call
        return call

    def _hold(self, text: str) -> None:
        self._held += len(text)
        if self._held > _MOST_HELD:
            raise UnreadableAnswer(f"the upstream's tool calls have more than {_MOST_HELD:,} characters")

    def _write(self, call: _Call) -> None:
        """Write the fragments of a call that have arrived."""
        blocks = self._blocks
        if not call.is_written:
            call.is_written = True
            if blocks.kind:
                self._out.append(blocks.stop(self._signature))
            known = self._ids.give(self._id, call.id)
            name = self._sent.names.get(call.name, call.name)
            self._out.append(blocks.start("tool_use", id=known, name=name, input={}))
        if fragments := call.arguments[call.written :]:
            call.written = len(call.arguments)
            self._out.append(blocks.arguments("".join(fragments)))

    def _write_calls(self) -> None:
        """Write the rest of all calls, and the text that waits for their end."""
        while self._open < len(self._calls):
            call = self._calls[self._open]
            if not call.name:
                raise UnreadableAnswer("the upstream's answer calls a tool without its name")
            if not call.arguments:
                call.arguments.append("{}")
            if self._finish not in CUT_SHORT and not call.is_whole:
                raise UnreadableAnswer(f"the arguments of the model's call of {call.name[:80]!r} are not a JSON object")
            self._write(call)
            self._end_call()
        if self._late:
            text, self._late = "".join(self._late), []
            self._text(text, "text")

    def _end_call(self) -> None:
        """End the open call's block."""
        self._calls[self._open].is_ended = True
        self._open += 1
        self._out.append(self._blocks.stop())

    def _complete(self) -> None:
        if self._finish is None and self._may_have_failed:
            raise UnreadableAnswer(UNEXPLAINED.message)
        if not self._is_started:
            raise UnreadableAnswer("the upstream's answer is empty")
        if self._tag is not None:
            for is_thought, part in self._tag.end():
                self._text(part, "thinking" if is_thought else "text")
        self._write_calls()
        if self._finish is None and self._blocks.is_empty:
            raise UnreadableAnswer("the upstream ended the answer before it was complete")
        self._out.append(self._blocks.stop(self._signature))
        self._stop(stop_reason(self._finish, has_calls=bool(self._calls), is_refused=self._is_refused))
