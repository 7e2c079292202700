"""The codecs between the Messages API and Gemini's `generateContent`."""

from typing import ClassVar

from tokenferry.wire._codec import Sent, StreamTranslator, Tokens, WireFormat
from tokenferry.wire._faults import read_fault
from tokenferry.wire._quirks import Quirks
from tokenferry.wire.gemini._answer_from_messages import answer_from_messages
from tokenferry.wire.gemini._answer_to_messages import answer_to_messages, count_to_messages
from tokenferry.wire.gemini._errors import gemini_error, read_gemini_fault
from tokenferry.wire.gemini._from_gemini import from_gemini
from tokenferry.wire.gemini._stream_from_messages import MessagesStreamToGemini
from tokenferry.wire.gemini._stream_to_messages import GeminiStreamToMessages
from tokenferry.wire.gemini._to_gemini import count_on_gemini, to_gemini
from tokenferry.wire.messages._errors import messages_error


class MessagesToGemini:
    """Connects clients of the Messages API to upstreams of Gemini's API.

    `domain` names the upstream, its model and account; thought signatures go back only there.
    """

    upstream: ClassVar[WireFormat] = "gemini"

    def __init__(self, quirks: Quirks, domain: str) -> None:
        self._quirks = quirks
        self._domain = domain

    def request(self, body: bytes, model: str, *, at: int = 0) -> Sent:  # noqa: ARG002  # the answer holds no time
        return to_gemini(body, model, self._quirks, self._domain)

    def answer(self, body: bytes, sent: Sent) -> tuple[bytes, Tokens]:
        return answer_to_messages(body, sent, self._domain)

    def error(self, status: int, body: bytes, request_id: str) -> tuple[int, bytes]:
        return messages_error(read_gemini_fault(body, status), request_id)

    def stream(self, sent: Sent, request_id: str) -> StreamTranslator:
        return GeminiStreamToMessages(sent, self._domain, request_id)


class CountOnGemini(MessagesToGemini):
    """Translates requests to count the tokens of a Messages request."""

    def request(self, body: bytes, model: str, *, at: int = 0) -> Sent:  # noqa: ARG002  # the answer holds no time
        return count_on_gemini(body, model, self._quirks, self._domain)

    def answer(self, body: bytes, sent: Sent) -> tuple[bytes, Tokens]:  # noqa: ARG002  # the interface of codecs
        return count_to_messages(body), Tokens()


class GeminiToMessages:
    """Connects clients of Gemini to upstreams of the Messages API, or to the next codec of a chain.

    The fields `model` and `stream` of a request hold what the client's path says. `domain` names the upstream and the
    family of its model; reasoning goes back only there.
    """

    upstream: ClassVar[WireFormat] = "anthropic"

    def __init__(self, quirks: Quirks, domain: str, *, is_last: bool = True) -> None:
        self._quirks = quirks
        self._domain = domain
        self._is_last = is_last

    def request(self, body: bytes, model: str, *, at: int = 0) -> Sent:  # noqa: ARG002  # the answer holds no time
        return from_gemini(body, model, self._quirks, self._domain, is_last=self._is_last)

    def answer(self, body: bytes, sent: Sent) -> tuple[bytes, Tokens]:
        return answer_from_messages(body, sent, self._domain)

    def error(self, status: int, body: bytes, request_id: str) -> tuple[int, bytes]:  # noqa: ARG002  # the answer has no field for it
        return gemini_error(read_fault(body, status))

    def stream(self, sent: Sent, request_id: str) -> MessagesStreamToGemini:  # noqa: ARG002  # see `error`
        return MessagesStreamToGemini(sent, self._domain)
