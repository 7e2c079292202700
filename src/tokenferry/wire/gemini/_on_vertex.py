"""Passes requests of Gemini clients to the paths of Vertex AI."""

from typing import ClassVar, Final

import msgspec

from tokenferry.errors import Unfit, UnreadableAnswer
from tokenferry.wire._codec import Sent, StreamTranslator, Tokens, WireFormat
from tokenferry.wire._event_translator import EventTranslator
from tokenferry.wire._faults import UNEXPLAINED, UpstreamFault, read_fault
from tokenferry.wire._json import answer_decoder, encode
from tokenferry.wire._quirks import Quirks
from tokenferry.wire.gemini._errors import gemini_error_event
from tokenferry.wire.gemini._meaning import tokens, unusable_end
from tokenferry.wire.gemini._models import GenerateContentAnswer
from tokenferry.wire.gemini._thoughts import SEALED_SIGNATURE, without_signatures
from tokenferry.wire.gemini._to_gemini import model_path
from tokenferry.wire.messages._errors import type_of_fault

_members: Final = msgspec.json.Decoder(dict[str, msgspec.Raw]).decode
_decode: Final = answer_decoder(GenerateContentAnswer)


class GeminiOnVertex:
    """Connects clients of Gemini to Vertex AI. The body passes without `model` and `stream`, which become the path."""

    upstream: ClassVar[WireFormat] = "gemini"

    def __init__(self, quirks: Quirks) -> None:
        self._quirks = quirks

    def request(self, body: bytes, model: str, *, at: int = 0) -> Sent:  # noqa: ARG002  # the answer holds no time
        try:
            members = _members(body)
        except (ValueError, RecursionError):
            raise Unfit("the request's body is not a JSON object") from None
        members.pop("model", None)
        is_stream = bytes(members.pop("stream", b"false")) == b"true"
        written = encode(members)
        if SEALED_SIGNATURE in written:
            written = without_signatures(written, keep_own=True)
        path = model_path(model, "streamGenerateContent?alt=sse" if is_stream else "generateContent", self._quirks)
        return Sent(body=written, model=model, stream=is_stream, path=path)

    def answer(self, body: bytes, sent: Sent) -> tuple[bytes, Tokens]:  # noqa: ARG002  # the interface of codecs
        try:
            answer, document = _decode(body), msgspec.json.decode(body)
        except (ValueError, RecursionError):
            raise UnreadableAnswer("the upstream's answer is not one of Gemini's API") from None
        if (fault := read_fault(body) or unusable_end(document)) is not None:
            raise UnreadableAnswer(fault.message, status=fault.status)
        return body, tokens(answer.usage_metadata)

    def error(self, status: int, body: bytes, request_id: str) -> tuple[int, bytes]:  # noqa: ARG002  # the interface of codecs
        return status, body

    def stream(self, sent: Sent, request_id: str) -> StreamTranslator:  # noqa: ARG002  # the interface of codecs
        return _VertexStream(request_id)


class _VertexStream(EventTranslator):
    """Passes events as they arrive, and ends with an error if none had a finish reason."""

    heartbeat = b""  # the SDKs read a comment as JSON

    def __init__(self, request_id: str) -> None:
        super().__init__()
        self._request_id = request_id
        self._is_finished = False

    def _translate(self, data: bytes) -> None:
        try:
            answer = _decode(data)
        except (ValueError, RecursionError):
            raise UnreadableAnswer("the upstream sent an event that is not part of a Gemini answer") from None
        if answer.error:
            self._out.append(self._fail(read_fault(data) or UNEXPLAINED))
            return
        self._out.append(b"data: " + data + b"\n\n")
        feedback = answer.prompt_feedback
        ended = any(one.finish_reason for one in answer.candidates or ()) or bool(feedback and feedback.block_reason)
        self._is_finished = self._is_finished or ended

    def _ended(self) -> None:
        if not self._is_finished:
            super()._ended()
        self.is_complete = True

    def _error(self, fault: UpstreamFault) -> tuple[str, bytes]:
        kind = type_of_fault(fault)
        return kind, gemini_error_event(kind, fault.message, self._request_id)
