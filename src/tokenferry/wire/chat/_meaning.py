"""The meaning of a Chat answer's fields in the Messages API, for whole answers and streams."""

from typing import Any, Final

from tokenferry.wire._codec import Tokens, count, table, tokens_with_cache
from tokenferry.wire.chat._models import ChatDelta

_STOP_REASONS: Final = {"length": "max_tokens", "content_filter": "refusal"}
CUT_SHORT: Final = frozenset(_STOP_REASONS)
"""Finish reasons that may cut a call's arguments anywhere."""


def stop_reason(finish: str | None, *, has_calls: bool, is_refused: bool) -> str:
    """Give the stop reason of a finished answer. Some upstreams say `stop` with calls, others `tool_calls` without."""
    if is_refused:
        return "refusal"
    return _STOP_REASONS.get(finish or "") or ("tool_use" if has_calls else "end_turn")


def tokens(usage: Any) -> Tokens:
    """Give the token counts of a `usage` object."""
    reported = table(usage)
    details, more = table(reported.get("prompt_tokens_details")), table(reported.get("completion_tokens_details"))
    read = count(details.get("cached_tokens"))
    return tokens_with_cache(
        count(reported.get("prompt_tokens")),
        count(reported.get("completion_tokens")),
        count(reported.get("prompt_cache_hit_tokens")) if read is None else read,  # DeepSeek's name
        count(details.get("cache_write_tokens")),
        count(more.get("reasoning_tokens")),
    )


def reasoning(delta: ChatDelta) -> str:
    """Give the reasoning, which vendors put into different fields."""
    if text := delta.reasoning_content or delta.reasoning:
        return text
    return _texts(delta.reasoning_details, "text", "summary") if delta.reasoning_details else ""


def content(delta: ChatDelta) -> tuple[str, str]:
    """Give the reasoning and the text of the content, which some vendors write as a list with both."""
    value = delta.content
    if value is None or isinstance(value, str):
        return "", value or ""
    thoughts = [one for part in value if part.get("type") == "thinking" for one in _parts(part.get("thinking"))]
    return _texts(thoughts, "text"), _texts([part for part in value if part.get("type") == "text"], "text")


def _parts(value: Any) -> list[dict[str, Any]]:
    if isinstance(value, str):
        return [{"text": value}]
    return [one for one in value if isinstance(one, dict)] if isinstance(value, list) else []


def _texts(parts: list[dict[str, Any]], *names: str) -> str:
    found = (next((part[name] for name in names if isinstance(part.get(name), str)), "") for part in parts)
    return "".join(found)
