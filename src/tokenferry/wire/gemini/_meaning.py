"""What the fields of a Gemini answer mean in the Messages API, whether it is whole or a stream."""

import re
from collections.abc import Mapping
from typing import TYPE_CHECKING, Any, Final, Literal, TypeAlias

from tokenferry.wire._codec import Tokens, tokens_with_cache
from tokenferry.wire._faults import UpstreamFault

if TYPE_CHECKING:
    from tokenferry.wire.gemini._models import UsageMetadata

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
"""Fields of a part that are no content."""
_LONGEST_MESSAGE: Final = 500
_BAD_REQUEST: Final = 400
_SERVER_ERROR: Final = 500
GeminiStage: TypeAlias = Literal["quiet", "content", "error"]


def client_id(issued: str | None) -> str | None:
    """The id that a client gets of a call to which Gemini gave one; None where it gave none that a client can have."""
    return f"{_ISSUED}{issued}" if issued and _ID.fullmatch(issued) else None


def issued_id(known: str) -> str | None:
    """The id that Gemini itself gave a call; None for one of another origin, which it may not take."""
    return known.removeprefix(_ISSUED) if known.startswith(_ISSUED) else None


def stop_reason(finish: str, *, has_calls: bool) -> str | None:
    """Why a finished answer with content ended well, or was filtered from there on; None for one that is broken."""
    if finish in _FILTERED:
        return "refusal"
    known = _ENDS.get(finish)
    return "tool_use" if has_calls and known == "end_turn" else known


def end_fault(finish: str, message: object = None) -> UpstreamFault:
    """What is wrong with an answer that ends so: without content, or with a broken part."""
    if finish in _FILTERED:
        return _fault(_BAD_REQUEST, f"the vendor's filters blocked the answer ({finish})", message)
    if finish in _ENDS:
        return _fault(_SERVER_ERROR, "the model's answer is empty", message)
    return _fault(_SERVER_ERROR, f"the model's answer is broken ({finish[:64]})", message)


def prompt_fault(reason: str, message: object = None) -> UpstreamFault:
    """What is wrong with a prompt that was blocked."""
    return _fault(_BAD_REQUEST, f"the vendor's filters blocked the prompt ({reason[:64]})", message)


def _fault(status: int, what: str, message: object) -> UpstreamFault:
    said = f": {message[:_LONGEST_MESSAGE]}" if isinstance(message, str) and message else ""
    return UpstreamFault(status=status, message=f"{what}{said}")


def unusable_end(answer: Mapping[str, Any]) -> UpstreamFault | None:
    """What is wrong with an answer, whole or an event of one, that ends without content or broken; None if nothing.

    The answer may be any document. One that says that it is an error is not looked at.
    """
    candidate = _first(answer.get("candidates"))
    if not candidate:
        feedback = _table(answer.get("promptFeedback"))
        reason = feedback.get("blockReason")
        return prompt_fault(reason, feedback.get("blockReasonMessage")) if isinstance(reason, str) and reason else None
    finish = candidate.get("finishReason")
    if not isinstance(finish, str) or not finish:
        return None
    reason = stop_reason(finish, has_calls=False)
    is_usable = reason == "max_tokens" or (reason is not None and _has_content(candidate))
    return None if is_usable else end_fault(finish, candidate.get("finishMessage"))


def gemini_stage(event: Mapping[str, Any]) -> GeminiStage:
    """Whether an event of a stream brings an error, content, or neither yet."""
    if event.get("error") or unusable_end(event) is not None:
        return "error"
    candidate = _first(event.get("candidates"))
    return "content" if _has_content(candidate) or candidate.get("finishReason") else "quiet"


def _has_content(candidate: Mapping[str, Any]) -> bool:
    parts = _table(candidate.get("content")).get("parts")
    return isinstance(parts, list) and any(
        value for part in parts if isinstance(part, dict) for name, value in part.items() if name not in _MARKS
    )


def _first(value: object) -> dict[str, Any]:
    return _table(value[0]) if isinstance(value, list) and value else {}


def _table(value: object) -> dict[str, Any]:
    return value if isinstance(value, dict) else {}


def tokens(usage: "UsageMetadata | None") -> Tokens:
    """What was counted. Where anything was, a count that isn't there is zero: the vendor leaves zeros out."""
    if usage is None or usage.prompt_token_count is None:
        return Tokens()
    given = usage.prompt_token_count + (usage.tool_use_prompt_token_count or 0)
    output = (usage.candidates_token_count or 0) + (usage.thoughts_token_count or 0)
    return tokens_with_cache(given, output, usage.cached_content_token_count or 0, 0)
