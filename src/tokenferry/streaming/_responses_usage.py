"""Reads tokens, model and end of a Responses answer."""

from typing import Any, Final

from tokenferry.streaming._openai_usage import take_openai_usage
from tokenferry.streaming._usage import TokenUsage, error_type, json_object
from tokenferry.wire import end_of, parse, split

# With unescaped quotes, which no text of a model can contain.
_MARKS: Final = (b'"response.completed"', b'"response.incomplete"', b'"response.failed"', b'"error"')
_ENDS: Final = frozenset(("response.completed", "response.incomplete"))
_FAILURES: Final = frozenset(("response.failed", "error"))


class ResponsesUsageReader:
    """A `StreamReader` of Responses answers."""

    def __init__(self, usage: TokenUsage) -> None:
        self._usage = usage
        self.is_complete = False
        """Whether a final event has arrived."""
        self.error: str | None = None
        self.model: str | None = None
        self.is_counted = False

    @property
    def is_finished(self) -> bool:
        return self.is_complete

    def read(self, events: bytes) -> int:
        """Read whole events. Give how many bytes may pass: up to an error event."""
        if self.model is None or any(mark in events for mark in _MARKS):
            for number, event in enumerate(split(events)):
                if b"data" not in event:  # a comment, or blank lines
                    continue
                self._note(event)
                if self.error is not None:
                    return end_of(events, number)
        return len(events)

    def close(self) -> None:
        """Nothing is left to read."""

    def _note(self, event: bytes) -> None:
        name, data = parse(event)
        document = json_object(data)
        kind = name or document.get("type")
        response = document.get("response")
        response = response if isinstance(response, dict) else {}
        if kind in _FAILURES:
            error = response.get("error") or document.get("error") or document
            code = error.get("code") or error.get("type") if isinstance(error, dict) else None
            self.error = error_type({"error": {"type": code}}) or "error"
            return
        model = response.get("model")
        if isinstance(model, str) and model:
            self.model = self.model or model
        if kind in _ENDS:
            self.is_complete = True
            usage = response.get("usage")
            take_responses_usage(response, self._usage)
            self.is_counted = isinstance(usage, dict) and type(usage.get("output_tokens")) is int


def read_responses_usage(document: bytes, usage: TokenUsage) -> None:
    """Read the usage of a whole answer."""
    take_responses_usage(json_object(document), usage)


def take_responses_usage(answer: dict[str, Any], usage: TokenUsage) -> None:
    """Read the usage of an answer."""
    take_openai_usage(answer, usage, given="input_tokens", output="output_tokens")
