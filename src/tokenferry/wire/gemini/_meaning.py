"""The meaning of a Gemini answer's fields in the Messages API, for whole answers and streams."""

import re
from collections.abc import Mapping
from typing import Any, Final, Literal, TypeAlias

from tokenferry.wire._codec import Tokens, count, table, tokens_with_cache
from tokenferry.wire._faults import UpstreamFault

_ENDS: Final = {"STOP": "end_turn", "MAX_TOKENS": "max_tokens", "CONTINUATION": "max_tokens"}
_FILTERED: Final = frozenset(
    (
        *("SAFETY", "RECITATION", "BLOCKLIST", "PROHIBITED_CONTENT", "SPII", "MODEL_ARMOR", "ESCALATION"),
        *("IMAGE_SAFETY", "IMAGE_PROHIBITED_CONTENT", "IMAGE_RECITATION"),
    )
)
_ISSUED: Final = "gemini_"
_ID: Final = re.compile(r"[A-Za-z0-9_-]{1,120}")
_MARKS: Final = frozenset(("thought", "thoughtSignature"))
"""Fields of a part that are not content."""
_LONGEST_MESSAGE: Final = 500
_BAD_REQUEST: Final = 400
_SERVER_ERROR: Final = 500
GeminiStage: TypeAlias = Literal["quiet", "content", "error"]


def client_id(issued: str | None) -> str | None:
    """Give the client's id for a call by Gemini's id; None if Gemini gave none, or one with odd characters."""
    return f"{_ISSUED}{issued}" if issued and _ID.fullmatch(issued) else None


def issued_id(known: str) -> str | None:
    """Give Gemini's id by the client's id; None if Gemini did not issue it."""
    return known.removeprefix(_ISSUED) if known.startswith(_ISSUED) else None


def stop_reason(finish: str, *, has_calls: bool) -> str | None:
    """Give the stop reason of a finished answer; None if it is broken."""
    if finish in _FILTERED:
        return "refusal"
    known = _ENDS.get(finish)
    return "tool_use" if has_calls and known == "end_turn" else known


def end_fault(finish: str, message: object = None) -> UpstreamFault:
    """Give the error of an answer that ended without content, or broken."""
    if finish in _FILTERED:
        return _fault(_BAD_REQUEST, f"the vendor's filters blocked the answer ({finish})", message)
    if finish in _ENDS:
        return _fault(_SERVER_ERROR, "the model's answer is empty", message)
    return _fault(_SERVER_ERROR, f"the model's answer is broken ({finish[:64]})", message)


def prompt_fault(reason: str, message: object = None) -> UpstreamFault:
    """Give the error of a blocked prompt."""
    return _fault(_BAD_REQUEST, f"the vendor's filters blocked the prompt ({reason[:64]})", message)


def _fault(status: int, summary: str, message: object) -> UpstreamFault:
    detail = f": {message[:_LONGEST_MESSAGE]}" if isinstance(message, str) and message else ""
    return UpstreamFault(status=status, message=f"{summary}{detail}")


def unusable_end(answer: Mapping[str, Any]) -> UpstreamFault | None:
    """Give the error of an answer, or of an event, that ends without content or broken; None for a usable one.

    The answer may be any document. The field `error` is not read.
    """
    candidate = _first(answer.get("candidates"))
    if not candidate:
        feedback = table(answer.get("promptFeedback"))
        reason = feedback.get("blockReason")
        return prompt_fault(reason, feedback.get("blockReasonMessage")) if isinstance(reason, str) and reason else None
    finish = candidate.get("finishReason")
    if not isinstance(finish, str) or not finish:
        return None
    reason = stop_reason(finish, has_calls=False)
    is_usable = reason == "max_tokens" or (reason is not None and _has_content(candidate))
    return None if is_usable else end_fault(finish, candidate.get("finishMessage"))


def gemini_stage(event: Mapping[str, Any]) -> GeminiStage:
    """Classify an event of a stream."""
    if event.get("error") or unusable_end(event) is not None:
        return "error"
    candidate = _first(event.get("candidates"))
    return "content" if _has_content(candidate) or candidate.get("finishReason") else "quiet"


def _has_content(candidate: Mapping[str, Any]) -> bool:
    parts = table(candidate.get("content")).get("parts")
    return isinstance(parts, list) and any(
        value for part in parts if isinstance(part, dict) for name, value in part.items() if name not in _MARKS
    )


def _first(value: object) -> dict[str, Any]:
    return table(value[0]) if isinstance(value, list) and value else {}


def tokens(usage: Any) -> Tokens:
    """Give the token counts of a `usageMetadata` object.

    The vendor leaves out zeros, so a missing count beside others is 0. The prompt includes cached tokens; the
    candidates exclude thoughts.
    """
    reported = table(usage)
    given = count(reported.get("promptTokenCount"))
    if given is None:
        return Tokens()
    cached, thoughts, tools, output = [
        count(reported.get(f"{name}TokenCount")) or 0
        for name in ("cachedContent", "thoughts", "toolUsePrompt", "candidates")
    ]
    return tokens_with_cache(given + tools, output + thoughts, cached, 0, thoughts)
