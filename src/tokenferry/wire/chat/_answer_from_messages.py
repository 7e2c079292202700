"""A whole Messages answer as a Chat completion."""

from typing import Any, Final

import msgspec

from tokenferry.errors import UnreadableAnswer
from tokenferry.wire._codec import Sent, Tokens
from tokenferry.wire._json import encode
from tokenferry.wire.messages._models import MessagesAnswer
from tokenferry.wire.messages._usage import read_usage

_decoder: Final = msgspec.json.Decoder(MessagesAnswer)
_REASONS: Final = {
    "max_tokens": "length",
    "model_context_window_exceeded": "length",
    "tool_use": "tool_calls",
    "refusal": "content_filter",
}


def answer_from_messages(body: bytes, sent: Sent) -> tuple[bytes, Tokens]:
    """Raises `UnreadableAnswer`."""
    try:
        answer = _decoder.decode(body)
    except (ValueError, RecursionError) as fault:
        raise UnreadableAnswer(f"the upstream's answer is no message: {fault}") from None
    text = "".join(block.text or "" for block in answer.content if block.type == "text")
    thoughts = "".join(block.thinking or "" for block in answer.content if block.type == "thinking")
    calls = [
        {
            "id": block.id or "",
            "type": "function",
            "function": {
                "name": sent.names.get(block.name or "", block.name or ""),
                "arguments": bytes(block.input).decode("utf-8", "replace"),
            },
        }
        for block in answer.content
        if block.type == "tool_use"
    ]
    message: dict[str, Any] = {"role": "assistant", "content": text or (None if calls else ""), "refusal": None}
    if thoughts:
        message["reasoning_content"] = thoughts
    if calls:
        message["tool_calls"] = calls
    counted = read_usage(answer.usage)
    completion = {
        "id": answer.id,
        "object": "chat.completion",
        "created": sent.at,
        "model": answer.model or sent.model,
        "choices": [
            {"index": 0, "message": message, "logprobs": None, "finish_reason": finish_reason(answer.stop_reason)}
        ],
        "usage": usage_object(counted),
    }
    return encode(completion), counted


def finish_reason(stop: str | None) -> str:
    return _REASONS.get(stop or "", "stop")


def usage_object(counted: Tokens) -> dict[str, Any]:
    """The `usage` of a Chat answer, whose prompt includes what the cache read and wrote."""
    read = counted.cache_read or 0
    prompt = (counted.input or 0) + read + (counted.cache_creation or 0)
    output = counted.output or 0
    return {
        "prompt_tokens": prompt,
        "completion_tokens": output,
        "total_tokens": prompt + output,
        "prompt_tokens_details": {"cached_tokens": read},
    }
