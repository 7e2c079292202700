"""What a Chat completion tells of itself, read from a copy: tokens, model, and how it ended."""

from typing import Any, Final

from tokenferry.streaming._openai_usage import take_openai_usage
from tokenferry.streaming._usage import TokenUsage, error_type, json_object
from tokenferry.wire import chat_stage, end_of, parse, split

# Unescaped quotation marks: no text of a model can hold these. Many vendors say null in each event.
_USAGE: Final = (b'"usage":{', b'"usage": {')
_FINISH: Final = (b'"finish_reason":"', b'"finish_reason": "')
_ERRORS: Final = (b'"error"', b'"base_resp"')
_DONE: Final = b"[DONE]"


class ChatUsageReader:
    """Reads the copy of a stream's events, as `SseUsageReader` does those of the Messages API."""

    def __init__(self, usage: TokenUsage) -> None:
        self._usage = usage
        self.is_complete = False
        """Whether `[DONE]` has come. A finish reason is enough for a stream that ends of its own accord."""
        self.is_finished = False
        """Whether nothing but usage and `[DONE]` was missing."""
        self.error: str | None = None
        self.model: str | None = None
        self.is_counted = False

    def read(self, events: bytes) -> int:
        """Take note of whole events; give how many bytes of them may pass: an error event is the last to."""
        if any(mark in events for mark in _FINISH):
            self.is_finished = True
        if self.model is None or _DONE in events or any(mark in events for mark in _USAGE + _ERRORS):
            for number, event in enumerate(split(events)):
                if b"data" not in event:  # a comment
                    continue
                self._note(event)
                if self.error is not None:
                    return end_of(events, number)
        return len(events)

    def _note(self, event: bytes) -> None:
        _, data = parse(event)
        if data.strip() == _DONE:
            self.is_complete = self.is_finished = True
            return
        document = json_object(data)
        if document and chat_stage(document) == "error":
            self.error = error_type(document) or "error"
            return
        model = document.get("model")
        if isinstance(model, str) and model:
            self.model = self.model or model
        if (usage := document.get("usage")) is not None:
            take_chat_usage(document, self._usage)
            self.is_counted = isinstance(usage, dict) and type(usage.get("completion_tokens")) is int


def read_chat_usage(document: bytes, usage: TokenUsage) -> None:
    """Take over the tokens that a whole Chat completion tells of."""
    take_chat_usage(json_object(document), usage)


def take_chat_usage(completion: dict[str, Any], usage: TokenUsage) -> None:
    """Take over what a completion or an event of one counted."""
    take_openai_usage(completion, usage, given="prompt_tokens", output="completion_tokens")
