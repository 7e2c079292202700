"""Classifies events that have no name and no type, for a stream that is held until its first content."""

from collections.abc import Mapping
from typing import Any

from tokenferry.wire.chat._first_content import ChatStage, chat_stage
from tokenferry.wire.gemini._meaning import gemini_stage

_GEMINI_FIELDS = ("candidates", "promptFeedback", "usageMetadata")


def event_stage(event: Mapping[str, Any]) -> ChatStage:
    """Classify an event of a Chat completion or of a Gemini answer."""
    return gemini_stage(event) if any(name in event for name in _GEMINI_FIELDS) else chat_stage(event)
