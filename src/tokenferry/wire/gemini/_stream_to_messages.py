"""Translates a streamed Gemini answer to the events of the Messages API."""

from typing import Any, Final

from tokenferry.errors import UnreadableAnswer
from tokenferry.wire._codec import Sent
from tokenferry.wire._envelope import seal
from tokenferry.wire._faults import UNEXPLAINED, read_fault
from tokenferry.wire._ids import AnswerIds
from tokenferry.wire._json import answer_decoder
from tokenferry.wire.gemini._answer_to_messages import called
from tokenferry.wire.gemini._meaning import client_id, end_fault, prompt_fault, stop_reason, tokens
from tokenferry.wire.gemini._models import AnswerCall, AnswerPart, GenerateContentAnswer
from tokenferry.wire.messages._streams import MessagesWriter

_MOST_CALLS: Final = 1000

_decode: Final = answer_decoder(GenerateContentAnswer)


class GeminiStreamToMessages(MessagesWriter):
    """Passes parts as they arrive, each call complete. The thinking block before a call holds the call's signature.

    Signatures of texts are left out: Gemini doesn't check them (https://ai.google.dev/gemini-api/docs/thought-signatures).
    They follow the text, so a thinking block would be the last one, which clients take for the result.
    The answer is complete with the finish reason and the usage; without the usage, at the end of the bytes.
    """

    def __init__(self, sent: Sent, domain: str, request_id: str) -> None:
        super().__init__(sent, request_id)
        self._domain = domain
        self._thought = seal(domain)
        self._finish: str | None = None
        self._finish_message: str | None = None
        self._counts: Any = None
        """The latest token counts."""
        self._calls = 0
        self._ids = AnswerIds()

    def _ended(self) -> None:
        if self._finish is None:
            super()._ended()
        self._complete(self._finish or "")

    def _translate(self, data: bytes) -> None:
        if data.strip() == b"[DONE]":  # some compatible servers send it
            return
        try:
            answer = _decode(data)
        except (ValueError, RecursionError):
            raise UnreadableAnswer("the upstream sent an event that is not part of a Gemini answer") from None
        if answer.error:
            self._out.append(self._fail(read_fault(data) or UNEXPLAINED))
        else:
            self._take(answer)

    def _take(self, answer: GenerateContentAnswer) -> None:
        self._counts = answer.usage_metadata or self._counts
        candidate = answer.candidates[0] if answer.candidates else None
        if candidate is None:
            feedback = answer.prompt_feedback
            if feedback is not None and feedback.block_reason and self._finish is None:
                self._out.append(self._fail(prompt_fault(feedback.block_reason, feedback.block_reason_message)))
        elif not candidate.index:
            if not self._is_started:
                self._start(answer.response_id, answer.model_version)
            for part in (candidate.content and candidate.content.parts) or ():
                self._part(part)
            self._finish = candidate.finish_reason or self._finish
            self._finish_message = candidate.finish_message or self._finish_message
        if self._finish is not None and self._counts is not None:
            self._complete(self._finish)

    def _part(self, part: AnswerPart) -> None:
        if part.function_call is not None:
            self._call(part.function_call, part.thought_signature)
        elif part.text and part.thought:
            self._open("thinking")
            self._out.append(self._blocks.thinking(part.text))
        elif part.text:
            self._open("text")
            self._out.append(self._blocks.text(part.text))

    def _open(self, kind: str) -> None:
        """Begin a block of this kind, unless one is open."""
        blocks = self._blocks
        if blocks.kind != kind:
            self._out.append(blocks.stop(self._thought))
            fields = {"text": ""} if kind == "text" else {"thinking": "", "signature": ""}
            self._out.append(blocks.start(kind, **fields))

    def _call(self, call: AnswerCall, signature: str | None) -> None:
        blocks, (name, arguments) = self._blocks, called(call)
        if self._calls >= _MOST_CALLS:
            raise UnreadableAnswer(f"the upstream's answer has more than {_MOST_CALLS:,} tool calls")
        if signature:
            self._open("thinking")
            self._out.append(blocks.stop(seal(self._domain, signature)))
        known = self._ids.give(self._id, client_id(call.id))
        self._calls += 1
        self._out += [
            blocks.stop(self._thought),
            blocks.start("tool_use", id=known, name=self._sent.names.get(name, name), input={}),
            blocks.arguments(arguments),
            blocks.stop(),
        ]

    def _complete(self, finish: str) -> None:
        self.usage = tokens(self._counts)
        reason = stop_reason(finish, has_calls=bool(self._calls))
        if reason is None or (self._blocks.is_empty and reason != "max_tokens"):
            self._out.append(self._fail(end_fault(finish, self._finish_message)))
            return
        self._out.append(self._blocks.stop(self._thought))
        self._stop(reason)
