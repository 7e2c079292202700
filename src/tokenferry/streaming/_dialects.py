"""How to read usage, errors and end of answers in each wire format."""

from collections.abc import Callable, Mapping
from typing import Final, Protocol

from msgspec import Struct

from tokenferry.streaming._chat_usage import ChatUsageReader, read_chat_usage
from tokenferry.streaming._gemini_usage import GeminiUsageReader, read_gemini_usage
from tokenferry.streaming._responses_usage import ResponsesUsageReader, read_responses_usage
from tokenferry.streaming._usage import SseUsageReader, TokenUsage, read_usage
from tokenferry.wire import WireFormat, chat_error_event, error_event, gemini_error_event, responses_error_event


class StreamReader(Protocol):
    """Reads the events of a stream."""

    is_complete: bool
    """Whether the answer has ended, and no other has begun."""
    error: str | None
    """The type of the error event that ended it."""
    model: str | None
    is_counted: bool
    """Whether the upstream has counted the whole output."""

    @property
    def is_finished(self) -> bool:
        """Whether the answer is complete if the stream ends here."""
        ...

    def read(self, events: bytes, /) -> int:
        """Read whole events. Give how many bytes may pass: up to an error event."""
        ...

    def close(self) -> None:
        """Read what only a stream without its end needs. Nothing follows."""


class Dialect(Struct, frozen=True):
    """The readers of one wire format, and its error event."""

    reader: Callable[[TokenUsage], StreamReader]
    read_usage: Callable[[bytes, TokenUsage], None]
    """Reads the usage of a whole answer."""
    error_event: Callable[[str, str, str], bytes]
    """Gives the event for Anthropic's error type, a message and the request id."""


MESSAGES: Final = Dialect(SseUsageReader, read_usage, error_event)
DIALECTS: Final[Mapping[WireFormat, Dialect]] = {
    "anthropic": MESSAGES,
    "openai": Dialect(ChatUsageReader, read_chat_usage, chat_error_event),
    "gemini": Dialect(GeminiUsageReader, read_gemini_usage, gemini_error_event),
    "openai-responses": Dialect(ResponsesUsageReader, read_responses_usage, responses_error_event),
}
