"""OpenAI's Responses API, as Codex and other clients need it."""

from tokenferry.wire.responses._from_responses import TABLE as FROM_RESPONSES
from tokenferry.wire.responses._to_responses import TABLE as TO_RESPONSES

__all__ = ["FROM_RESPONSES", "TO_RESPONSES"]
