"""Translates a whole Messages answer to a Chat completion."""

from typing import Any, Final

from tokenferry.wire._codec import Sent, Tokens
from tokenferry.wire._json import encode
from tokenferry.wire.messages._answer import read_answer, read_usage

_REASONS: Final = {
    "max_tokens": "length",
    "model_context_window_exceeded": "length",
    "tool_use": "tool_calls",
    "refusal": "content_filter",
}


def answer_from_messages(body: bytes, sent: Sent) -> tuple[bytes, Tokens]:
    """Translate an answer, and give its tokens. Raises `UnreadableAnswer`."""
    answer = read_answer(body)
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
    """Give the `usage` of a Chat answer. Its prompt includes what the cache read and wrote."""
    read, written = counted.cache_read or 0, counted.cache_creation or 0
    prompt = (counted.input or 0) + read + written
    output = counted.output or 0
    return {
        "prompt_tokens": prompt,
        "completion_tokens": output,
        "total_tokens": prompt + output,
        "prompt_tokens_details": {"cached_tokens": read, **({"cache_write_tokens": written} if written else {})},
        **({} if counted.thinking is None else {"completion_tokens_details": {"reasoning_tokens": counted.thinking}}),
    }
