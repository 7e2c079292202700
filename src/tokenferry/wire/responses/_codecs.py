"""The two codecs between the Responses API and the Messages API."""

from typing import ClassVar

from tokenferry.wire._codec import Sent, Tokens, WireFormat
from tokenferry.wire._faults import read_fault
from tokenferry.wire._openai_errors import openai_error
from tokenferry.wire._quirks import Quirks
from tokenferry.wire.messages._errors import messages_error
from tokenferry.wire.responses._answer_from_messages import answer_from_messages
from tokenferry.wire.responses._answer_to_messages import answer_to_messages
from tokenferry.wire.responses._from_responses import from_responses
from tokenferry.wire.responses._stream_from_messages import MessagesStreamToResponses
from tokenferry.wire.responses._stream_to_messages import ResponsesStreamToMessages
from tokenferry.wire.responses._to_responses import to_responses


class MessagesToResponses:
    """Connects clients of the Messages API to upstreams of the Responses API.

    `domain` names the upstream and the family of its model; reasoning goes back only there.
    """

    upstream: ClassVar[WireFormat] = "openai-responses"

    def __init__(self, quirks: Quirks, domain: str) -> None:
        self._quirks = quirks
        self._domain = domain

    def request(self, body: bytes, model: str, *, at: int = 0) -> Sent:  # noqa: ARG002  # the answer holds no time
        return to_responses(body, model, self._quirks, self._domain)

    def answer(self, body: bytes, sent: Sent) -> tuple[bytes, Tokens]:
        return answer_to_messages(body, sent, self._domain)

    def error(self, status: int, body: bytes, request_id: str) -> tuple[int, bytes]:
        return messages_error(read_fault(body, status), request_id)

    def stream(self, sent: Sent, request_id: str) -> ResponsesStreamToMessages:
        return ResponsesStreamToMessages(sent, self._domain, request_id)


class ResponsesToMessages:
    """Connects clients of the Responses API to upstreams of the Messages API, or to the next codec of a chain."""

    upstream: ClassVar[WireFormat] = "anthropic"

    def __init__(self, quirks: Quirks, domain: str, *, is_last: bool = True) -> None:
        self._quirks = quirks
        self._domain = domain
        self._is_last = is_last

    def request(self, body: bytes, model: str, *, at: int = 0) -> Sent:
        return from_responses(body, model, self._quirks, self._domain, at, is_last=self._is_last)

    def answer(self, body: bytes, sent: Sent) -> tuple[bytes, Tokens]:
        return answer_from_messages(body, sent, self._domain)

    def error(self, status: int, body: bytes, request_id: str) -> tuple[int, bytes]:  # noqa: ARG002  # the answer has no field for it
        return openai_error(read_fault(body, status))

    def stream(self, sent: Sent, request_id: str) -> MessagesStreamToResponses:
        return MessagesStreamToResponses(sent, self._domain, request_id)
