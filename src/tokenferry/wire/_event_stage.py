"""Tells what an event without a name or type brings, for whoever holds a stream back until its first content."""

from collections.abc import Mapping
from typing import Any

from tokenferry.wire.chat._first_content import ChatStage, chat_stage
from tokenferry.wire.gemini._meaning import gemini_stage

_GEMINIS = ("candidates", "promptFeedback", "usageMetadata")


def event_stage(event: Mapping[str, Any]) -> ChatStage:
    """An error, content, or neither yet: of a Chat completion or an answer of Gemini."""
    return gemini_stage(event) if any(name in event for name in _GEMINIS) else chat_stage(event)
