"""What an answer of Gemini tells of itself, read from a copy: tokens, model, and how it ended."""

from typing import Any, Final

from tokenferry.streaming._usage import TokenUsage, error_type, json_object
from tokenferry.wire import end_of, parse, split

# Unescaped quotation marks: no text of a model can hold these.
_MARKS: Final = (b'"finishReason"', b'"blockReason"', b'"error"')


class GeminiUsageReader:
    """Reads the copy of a stream's events, as `SseUsageReader` does those of the Messages API.

    Each event counts all until there, so that the last one is enough.
    """

    def __init__(self, usage: TokenUsage) -> None:
        self._usage = usage
        self.is_complete = False
        """Whether a finish reason has come, or that the prompt was blocked."""
        self.error: str | None = None
        self.model: str | None = None
        self.is_counted = False

    @property
    def is_finished(self) -> bool:
        return self.is_complete

    def read(self, events: bytes) -> int:
        """Take note of whole events; give how many bytes of them may pass: an error event is the last to."""
        if self.model is None or self.is_complete or any(mark in events for mark in _MARKS):
            for number, event in enumerate(split(events)):
                self._note(event)
                if self.error is not None:
                    return end_of(events, number)
        return len(events)

    def _note(self, event: bytes) -> None:
        document = json_object(parse(event)[1])
        if error := document.get("error"):
            status = error.get("status") if isinstance(error, dict) else None
            self.error = error_type({"error": {"type": str(status).lower()}}) or "error"
            return
        model = document.get("modelVersion")
        if isinstance(model, str) and model:
            self.model = self.model or model
        candidates = document.get("candidates")
        feedback = document.get("promptFeedback")
        if (isinstance(feedback, dict) and feedback.get("blockReason")) or (
            isinstance(candidates, list)
            and any(isinstance(one, dict) and one.get("finishReason") for one in candidates)
        ):
            self.is_complete = True
        if take_gemini_usage(document, self._usage):
            self.is_counted = self.is_complete


def read_gemini_usage(document: bytes, usage: TokenUsage) -> None:
    """Take over the tokens that a whole answer tells of."""
    take_gemini_usage(json_object(document), usage)


def take_gemini_usage(answer: dict[str, Any], usage: TokenUsage) -> bool:
    """Take over what an answer counted; tell whether it counted anything.

    Its prompt includes what came from the cache; what was thought comes on top of the candidates.
    """
    reported = answer.get("usageMetadata")
    if not isinstance(reported, dict) or (prompt := _count(reported, "promptTokenCount")) is None:
        return False
    cached, thoughts = _count(reported, "cachedContentTokenCount") or 0, _count(reported, "thoughtsTokenCount") or 0
    tools = _count(reported, "toolUsePromptTokenCount") or 0
    usage.take(
        {
            "input_tokens": max(prompt + tools - cached, 0),
            "output_tokens": (_count(reported, "candidatesTokenCount") or 0) + thoughts,
            "cache_read_input_tokens": cached,
            "cache_creation_input_tokens": 0,  # which it doesn't bill; like its other zeros it is left out
            "output_tokens_details": {"thinking_tokens": thoughts},
        }
    )
    return True


def _count(reported: dict[str, Any], name: str) -> int | None:
    value = reported.get(name)
    return value if type(value) is int and value >= 0 else None
