"""Reads tokens, model and end of a Gemini answer."""

from typing import Any, Final

from tokenferry.streaming._usage import TokenUsage, error_type, json_object, token_count
from tokenferry.wire import end_of, parse, split

# With unescaped quotes, which no text of a model can contain.
_USAGE: Final = b'"usageMetadata"'
_MARKS: Final = (b'"finishReason"', b'"blockReason"', b'"error"')


class GeminiUsageReader:
    """A `StreamReader` of Gemini answers. Counts are cumulative, so the last event suffices.

    Thoughts may be counted without being sent, so no estimate replaces the counts of a stream that is left.
    """

    def __init__(self, usage: TokenUsage) -> None:
        self._usage = usage
        self.is_complete = False
        """Whether a finish reason or a block reason has arrived."""
        self.error: str | None = None
        self.model: str | None = None
        self.is_counted = False
        self._unread = b""
        """The last events with counts, if they were not parsed."""

    @property
    def is_finished(self) -> bool:
        return self.is_complete

    def read(self, events: bytes) -> int:
        """Read whole events. Give how many bytes may pass: up to an error event."""
        if self.model is None or self.is_complete or any(mark in events for mark in _MARKS):
            self.close()
            for number, event in enumerate(split(events)):
                if b"data" not in event:  # a comment, or blank lines
                    continue
                self._note(event)
                if self.error is not None:
                    return end_of(events, number)
        elif _USAGE in events:
            self._unread = events
        return len(events)

    def close(self) -> None:
        if self._unread:
            self._note(next(event for event in reversed(split(self._unread)) if _USAGE in event))
            self._unread = b""

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
    """Read the usage of a whole answer."""
    take_gemini_usage(json_object(document), usage)


def take_gemini_usage(answer: dict[str, Any], usage: TokenUsage) -> bool:
    """Read the usage of an answer. Give whether it has one.

    The prompt includes cached tokens; the candidates exclude thoughts.
    """
    reported = answer.get("usageMetadata")
    if not isinstance(reported, dict) or (prompt := token_count(reported.get("promptTokenCount"))) is None:
        return False
    cached, thoughts, tools, output = [
        token_count(reported.get(f"{name}TokenCount")) or 0
        for name in ("cachedContent", "thoughts", "toolUsePrompt", "candidates")
    ]
    usage.take(
        {
            "input_tokens": max(prompt + tools - cached, 0),
            "output_tokens": output + thoughts,
            "cache_read_input_tokens": cached,
            "cache_creation_input_tokens": 0,  # Gemini does not count cache writes
            "output_tokens_details": {"thinking_tokens": thoughts},
        }
    )
    return True
