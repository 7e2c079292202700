from typing import ClassVar

from tokenferry.wire._codec import Sent, Tokens, WireFormat
from tokenferry.wire._faults import read_fault
from tokenferry.wire._quirks import Quirks
from tokenferry.wire.gemini._answer_from_messages import answer_from_messages
from tokenferry.wire.gemini._errors import gemini_error
from tokenferry.wire.gemini._from_gemini import from_gemini
from tokenferry.wire.gemini._stream_from_messages import MessagesStreamToGemini


class GeminiToMessages:
    """A client of Gemini before an upstream of the Messages API, or of one that is asked through it.

    Its requests name the model and the stream that their address asks for, as `model` and `stream`. `domain` names
    the upstream and the family of its model, so that reasoning goes back to its issuer alone.
    """

    upstream: ClassVar[WireFormat] = "anthropic"

    def __init__(self, quirks: Quirks, domain: str, *, is_last: bool = True) -> None:
        self._quirks = quirks
        self._domain = domain
        self._is_last = is_last

    def request(self, body: bytes, model: str, *, at: int = 0) -> Sent:  # noqa: ARG002  # its answers name no time
        return from_gemini(body, model, self._quirks, self._domain, is_last=self._is_last)

    def answer(self, body: bytes, sent: Sent) -> tuple[bytes, Tokens]:
        return answer_from_messages(body, sent, self._domain)

    def error(self, status: int, body: bytes, request_id: str) -> tuple[int, bytes]:  # noqa: ARG002  # it has no field
        return gemini_error(read_fault(body, status))

    def stream(self, sent: Sent, request_id: str) -> MessagesStreamToGemini:  # noqa: ARG002  # see `error`
        return MessagesStreamToGemini(sent, self._domain)
