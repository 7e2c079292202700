"""The two codecs between Chat Completions and the Messages API."""

from typing import ClassVar

from tokenferry.wire._codec import Sent, Tokens, WireFormat
from tokenferry.wire._faults import read_fault
from tokenferry.wire._openai_errors import openai_error
from tokenferry.wire._quirks import Quirks
from tokenferry.wire.chat._answer_from_messages import answer_from_messages
from tokenferry.wire.chat._answer_to_messages import answer_to_messages
from tokenferry.wire.chat._from_chat import from_chat
from tokenferry.wire.chat._stream_from_messages import MessagesStreamToChat
from tokenferry.wire.chat._stream_to_messages import ChatStreamToMessages
from tokenferry.wire.chat._to_chat import to_chat
from tokenferry.wire.messages._errors import messages_error


class MessagesToChat:
    """Connects clients of the Messages API to upstreams of Chat Completions.

    `domain` names the upstream and the family of its model; reasoning goes back only there.
    """

    upstream: ClassVar[WireFormat] = "openai"

    def __init__(self, quirks: Quirks, domain: str) -> None:
        self._quirks = quirks
        self._domain = domain

    def request(self, body: bytes, model: str, *, at: int = 0) -> Sent:  # noqa: ARG002  # the answer holds no time
        return to_chat(body, model, self._quirks, self._domain)

    def answer(self, body: bytes, sent: Sent) -> tuple[bytes, Tokens]:
        return answer_to_messages(body, sent, self._domain, think_tag=self._quirks.think_tag)

    def error(self, status: int, body: bytes, request_id: str) -> tuple[int, bytes]:
        return messages_error(read_fault(body, status), request_id)

    def stream(self, sent: Sent, request_id: str) -> ChatStreamToMessages:
        return ChatStreamToMessages(sent, self._domain, request_id, think_tag=self._quirks.think_tag)


class ChatToMessages:
    """Connects clients of Chat Completions to upstreams of the Messages API, or to the next codec of a chain."""

    upstream: ClassVar[WireFormat] = "anthropic"

    def __init__(self, quirks: Quirks, *, is_last: bool = True) -> None:
        self._quirks = quirks
        self._is_last = is_last

    def request(self, body: bytes, model: str, *, at: int = 0) -> Sent:
        return from_chat(body, model, self._quirks, at, is_last=self._is_last)

    def answer(self, body: bytes, sent: Sent) -> tuple[bytes, Tokens]:
        return answer_from_messages(body, sent)

    def error(self, status: int, body: bytes, request_id: str) -> tuple[int, bytes]:  # noqa: ARG002  # the answer has no field for it
        return openai_error(read_fault(body, status))

    def stream(self, sent: Sent, request_id: str) -> MessagesStreamToChat:  # noqa: ARG002  # see `error`
        return MessagesStreamToChat(sent)
