"""OpenAI's Chat Completions API, and what vendors made of it."""

from tokenferry.wire.chat._from_chat import TABLE as FROM_CHAT
from tokenferry.wire.chat._to_chat import TABLE as TO_CHAT

__all__ = ["FROM_CHAT", "TO_CHAT"]
