"""How each wire format tells of its usage, its errors and its end."""

from collections.abc import Callable, Mapping
from typing import Final, Protocol

from msgspec import Struct

from tokenferry.streaming._chat_usage import ChatUsageReader, read_chat_usage
from tokenferry.streaming._gemini_usage import GeminiUsageReader, read_gemini_usage
from tokenferry.streaming._responses_usage import ResponsesUsageReader, read_responses_usage
from tokenferry.streaming._usage import SseUsageReader, TokenUsage, read_usage
from tokenferry.wire import WireFormat, chat_error_event, error_event, gemini_error_event, responses_error_event


class StreamReader(Protocol):
    """Reads the copy of a stream's events."""

    is_complete: bool
    """Whether the answer has come to its end, and no other one has begun."""
    error: str | None
    """The type of the error event that ended it."""
    model: str | None
    is_counted: bool
    """Whether the upstream has counted the whole output."""

    @property
    def is_finished(self) -> bool:
        """Whether a stream that ends of its own accord here misses nothing."""
        ...

    def read(self, events: bytes, /) -> int:
        """Take note of whole events; give how many bytes of them may pass: an error event is the last to."""
        ...


class Dialect(Struct, frozen=True):
    """What reads the answers of one wire format, and words the error that ends a stream of it."""

    reader: Callable[[TokenUsage], StreamReader]
    read_usage: Callable[[bytes, TokenUsage], None]
    """Takes over the tokens that an answer in one document tells of."""
    error_event: Callable[[str, str, str], bytes]
    """By a type of Anthropic's, a message and the request's id."""


MESSAGES: Final = Dialect(SseUsageReader, read_usage, error_event)
DIALECTS: Final[Mapping[WireFormat, Dialect]] = {
    "anthropic": MESSAGES,
    "openai": Dialect(ChatUsageReader, read_chat_usage, chat_error_event),
    "gemini": Dialect(GeminiUsageReader, read_gemini_usage, gemini_error_event),
    "openai-responses": Dialect(ResponsesUsageReader, read_responses_usage, responses_error_event),
}
