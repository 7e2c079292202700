"""The Messages side of stream translators: reads the events of an answer, or writes them."""

from abc import abstractmethod
from typing import Final

from tokenferry.errors import UnreadableAnswer
from tokenferry.wire._codec import Sent
from tokenferry.wire._event_translator import EventTranslator
from tokenferry.wire._faults import UNEXPLAINED, UpstreamFault, read_fault
from tokenferry.wire._json import answer_decoder, is_object
from tokenferry.wire.messages._answer import read_usage, usage_object
from tokenferry.wire.messages._errors import error_event, fault_message, type_of_fault
from tokenferry.wire.messages._events import PING, STOP, BlockWriter, event, message_start
from tokenferry.wire.messages._models import AnswerBlock, AnswerDelta, AnswerEvent

_MOST_HELD: Final = 32 * 1024 * 1024
_CUT_SHORT: Final = frozenset(("max_tokens", "model_context_window_exceeded", "refusal"))
"""Stop reasons that may cut a call's arguments anywhere."""

_decode: Final = answer_decoder(AnswerEvent)


EMPTY_INPUTS: Final = frozenset((b"", b"{}", b"null"))
"""The input in `content_block_start` if deltas follow."""


class MessagesReader(EventTranslator):
    """Translates from Messages. Blocks arrive one after another; unknown kinds are skipped.

    An answer without a stop reason is an error, and so is one that ends regularly within a call's arguments.
    """

    def __init__(self, sent: Sent) -> None:
        super().__init__()
        self._sent = sent
        self._is_started = False
        self._stop: str | None = None
        self._inputs: dict[int, list[str]] = {}
        """The arguments of each open call, by the index of its block."""
        self._held_inputs = 0
        self._is_cut = False
        """Whether a block ended with arguments that are not a JSON object."""

    @abstractmethod
    def _start(self, known: str, model: str) -> None:
        """Begin the answer with this id and model."""

    @abstractmethod
    def _begin(self, index: int, block: AnswerBlock) -> None:
        """Begin a block."""

    @abstractmethod
    def _add(self, index: int, delta: AnswerDelta) -> None:
        """Add to a block."""

    @abstractmethod
    def _end_block(self, index: int) -> None:
        """End a block."""

    @abstractmethod
    def _complete(self) -> None:
        """End the answer."""

    def _translate(self, data: bytes) -> None:
        try:
            event = _decode(data)
        except (ValueError, RecursionError):
            raise UnreadableAnswer("the upstream sent an event that is not part of a message") from None
        kind, index = event.type, event.index
        if index is None:
            self._frame(event, data)
        elif not self._is_started:
            raise UnreadableAnswer("the upstream's answer begins without message_start")
        elif kind == "content_block_delta" and event.delta is not None:
            if event.delta.partial_json and index in self._inputs:
                self._hold(index, event.delta.partial_json)
            self._add(index, event.delta)
        elif kind == "content_block_start" and event.content_block is not None:
            if event.content_block.type == "tool_use":
                given = bytes(event.content_block.input)
                self._inputs[index] = [] if given in EMPTY_INPUTS else [given.decode("utf-8", "replace")]
            self._begin(index, event.content_block)
        elif kind == "content_block_stop":
            self._finish_block(index)

    def _hold(self, index: int, arguments: str) -> None:
        self._inputs[index].append(arguments)
        self._held_inputs += len(arguments)
        if self._held_inputs > _MOST_HELD:
            raise UnreadableAnswer(f"the upstream's tool calls have more than {_MOST_HELD:,} characters")

    def _finish_block(self, index: int) -> None:
        text = "".join(self._inputs.pop(index, ()))
        self._is_cut |= bool(text) and not is_object(text)
        self._end_block(index)

    def _frame(self, event: AnswerEvent, data: bytes) -> None:
        """Handle an event that concerns the whole answer."""
        match event.type:
            case "message_start" if event.message is not None and not self._is_started:
                self._is_started = True
                self.usage = read_usage(event.message.usage)
                self._start(event.message.id, event.message.model or self._sent.model)
            case "message_delta":
                self.usage = read_usage(event.usage, self.usage)
                self._stop = (event.delta and event.delta.stop_reason) or self._stop
            case "message_stop":
                if not self._is_started:
                    raise UnreadableAnswer("the upstream's answer begins without message_start")
                if self._stop is None:
                    raise UnreadableAnswer("the upstream ended the answer without a stop reason")
                for index in list(self._inputs):  # calls whose end was left out
                    self._finish_block(index)
                if self._is_cut and self._stop not in _CUT_SHORT:
                    raise UnreadableAnswer("the arguments of the model's call are not a JSON object")
                self._complete()
                self.is_complete = True
            case "ping":
                self._beat()
            case "error":
                self._out.append(self._fail(read_fault(data) or UNEXPLAINED))


class MessagesWriter(EventTranslator):
    """Translates to Messages."""

    heartbeat = PING

    def __init__(self, sent: Sent, request_id: str) -> None:
        super().__init__()
        self._sent = sent
        self._request_id = request_id
        self._blocks = BlockWriter()
        self._id = ""

    @property
    def _is_started(self) -> bool:
        return bool(self._id)

    def _start(self, known: str | None, model: str | None) -> None:
        self._id = f"msg_{known or self._request_id}"
        self._out.append(message_start(self._id, model or self._sent.model))

    def _stop(self, reason: str) -> None:
        """Write the last events, after the end of every block."""
        delta = {"stop_reason": reason, "stop_sequence": None}
        self._out.append(event("message_delta", delta=delta, usage=usage_object(self.usage)))
        self._out.append(STOP)
        self.is_complete = True

    def _error(self, fault: UpstreamFault) -> tuple[str, bytes]:
        kind = type_of_fault(fault)
        return kind, error_event(kind, fault_message(fault), self._request_id)
