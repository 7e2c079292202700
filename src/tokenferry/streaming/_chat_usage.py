"""Reads tokens, model and end of a Chat completion."""

from typing import Any, Final

from tokenferry.streaming._openai_usage import take_openai_usage
from tokenferry.streaming._usage import TokenUsage, error_type, json_object
from tokenferry.wire import chat_stage, end_of, parse, split

# With unescaped quotes, which no text of a model can contain. Many vendors send null in each event.
_USAGE: Final = (b'"usage":{', b'"usage": {')
_FINISH: Final = (b'"finish_reason":"', b'"finish_reason": "')
_ERRORS: Final = (b'"error"', b'"base_resp"')
_DONE: Final = b"[DONE]"


class ChatUsageReader:
    """A `StreamReader` of Chat completions."""

    def __init__(self, usage: TokenUsage) -> None:
        self._usage = usage
        self.is_complete = False
        """Whether `[DONE]` has arrived."""
        self.is_finished = False
        """Whether a finish reason has arrived, which suffices for a stream that ends regularly."""
        self.error: str | None = None
        self.model: str | None = None
        self.is_counted = False

    def read(self, events: bytes) -> int:
        """Read whole events. Give how many bytes may pass: up to an error event."""
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

    def close(self) -> None:
        """Nothing is left to read."""

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
    """Read the usage of a whole completion."""
    take_chat_usage(json_object(document), usage)


def take_chat_usage(completion: dict[str, Any], usage: TokenUsage) -> None:
    """Read the usage of a completion or an event."""
    take_openai_usage(completion, usage, given="prompt_tokens", output="completion_tokens")
