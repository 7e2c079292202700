"""Classifies events of streamed Chat completions, for a stream that is held until its first content."""

from collections.abc import Mapping
from typing import Any, Literal, TypeAlias

ChatStage: TypeAlias = Literal["quiet", "content", "error"]


def chat_stage(event: Mapping[str, Any]) -> ChatStage:
    """Classify an event. It is quiet if it has no choices, or only a role."""
    base = event.get("base_resp")
    if event.get("error") or (isinstance(base, dict) and base.get("status_code")):
        return "error"
    choices = event.get("choices")
    return "content" if not isinstance(choices, list) or any(map(_has_content, choices)) else "quiet"


def _has_content(choice: Any) -> bool:
    if not isinstance(choice, dict) or choice.get("finish_reason"):
        return True
    delta = choice.get("delta")
    return isinstance(delta, dict) and any(value for name, value in delta.items() if name != "role")
