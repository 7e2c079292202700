"""Translates a whole Messages answer to Gemini's format."""

from typing import Any, Final

import msgspec

from tokenferry.wire._codec import Sent, Tokens
from tokenferry.wire._json import encode
from tokenferry.wire.gemini._thoughts import Thought, sealed_thoughts
from tokenferry.wire.messages import _models as messages
from tokenferry.wire.messages._answer import read_answer, read_usage

_REASONS: Final = {
    "max_tokens": "MAX_TOKENS",
    "model_context_window_exceeded": "MAX_TOKENS",
    "refusal": "SAFETY",
}


def answer_from_messages(body: bytes, sent: Sent, domain: str) -> tuple[bytes, Tokens]:
    """Translate an answer, and give its tokens. Raises `UnreadableAnswer`."""
    answer = read_answer(body)
    parts = PartWriter(sent, domain)
    written = [part for block in answer.content for part in parts.block(block)]
    written += parts.rest()
    counted = read_usage(answer.usage)
    document = answer_document(
        answer.id, answer.model or sent.model, written, reason=finish_reason(answer.stop_reason), counted=counted
    )
    return encode(document), counted


class PartWriter:
    """Writes the blocks of an answer as parts. Thoughts travel in the signature of the part that follows them."""

    def __init__(self, sent: Sent, domain: str) -> None:
        self._sent = sent
        self._domain = domain
        self._thoughts: list[Thought] = []

    def block(self, block: messages.AnswerBlock) -> list[dict[str, Any]]:
        """Give the parts of a whole block; none for an unknown kind."""
        match block.type:
            case "text":
                return self.text(block.text or "")
            case "thinking":
                self.think(messages.ThinkingContent(thinking=block.thinking or "", signature=block.signature or ""))
                return self.thought(block.thinking or "")
            case "redacted_thinking":
                self.think(messages.RedactedThinkingContent(data=block.data or ""))
            case "tool_use":
                return [self.call(block, bytes(block.input).decode("utf-8", "replace").encode())]
        return []

    def text(self, text: str) -> list[dict[str, Any]]:
        return [self._signed({"text": text})] if text else []

    def thought(self, text: str) -> list[dict[str, Any]]:
        """Give the part for a thought or a piece of one, if the client asks for thoughts."""
        return [{"text": text, "thought": True}] if text and self._sent.wants_thoughts else []

    def think(self, thought: Thought) -> None:
        """Remember a whole thought for the next signature. The model can't use one without its own signature."""
        if isinstance(thought, messages.RedactedThinkingContent) or thought.signature:
            self._thoughts.append(thought)

    def call(self, block: messages.AnswerBlock, arguments: bytes) -> dict[str, Any]:
        """Give the part for a call with complete arguments."""
        name = self._sent.names.get(block.name or "", block.name or "")
        call = {"name": name, "args": msgspec.Raw(arguments or b"{}"), "id": block.id or ""}
        return self._signed({"functionCall": call})

    def rest(self) -> list[dict[str, Any]]:
        """Give a part for thoughts that nothing followed."""
        return [self._signed({"text": ""})] if self._thoughts else []

    def _signed(self, part: dict[str, Any]) -> dict[str, Any]:
        if self._thoughts:
            part["thoughtSignature"] = sealed_thoughts(self._domain, self._thoughts)
            self._thoughts = []
        return part


def answer_document(
    known: str,
    model: str,
    parts: list[dict[str, Any]],
    *,
    reason: str | None = None,
    counted: Tokens | None = None,
) -> dict[str, Any]:
    """Give an answer, or one event of a stream. `reason` and `counted` belong to the end.

    An empty text stands for no parts, as in the vendor's answers: the SDKs' chats forget a turn with empty content.
    """
    content = {"role": "model", "parts": parts or [{"text": ""}]}
    candidate: dict[str, Any] = {"content": content, "index": 0}
    if reason is not None:
        candidate["finishReason"] = reason
    document: dict[str, Any] = {"candidates": [candidate]}
    if counted is not None:
        document["usageMetadata"] = _usage_object(counted)
    return {**document, "modelVersion": model, "responseId": known}


def finish_reason(stop: str | None) -> str:
    return _REASONS.get(stop or "", "STOP")


def _usage_object(counted: Tokens) -> dict[str, int]:
    """Give the `usageMetadata`. Its prompt includes what the cache read and wrote."""
    read, output = counted.cache_read or 0, counted.output or 0
    prompt = (counted.input or 0) + read + (counted.cache_creation or 0)
    thoughts = min(counted.thinking or 0, output)
    return {
        "promptTokenCount": prompt,
        "candidatesTokenCount": output - thoughts,
        "totalTokenCount": prompt + output,
        **({"cachedContentTokenCount": read} if read else {}),
        **({"thoughtsTokenCount": thoughts} if thoughts else {}),
    }
