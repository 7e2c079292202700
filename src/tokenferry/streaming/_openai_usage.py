"""The `usage` of OpenAI's formats, which name its fields in different ways."""

from typing import Any

from tokenferry.streaming._usage import TokenUsage


def take_openai_usage(answer: dict[str, Any], usage: TokenUsage, *, given: str, output: str) -> None:
    """Take over what an answer counted, where the input and the output have these names.

    Its input includes what the cache read and wrote.
    """
    reported = answer.get("usage")
    if not isinstance(reported, dict):
        return
    details, more = _table(reported.get(f"{given}_details")), _table(reported.get(f"{output}_details"))
    read, written = _count(details.get("cached_tokens")), _count(details.get("cache_write_tokens"))
    if read is None:
        read = _count(reported.get("prompt_cache_hit_tokens"))  # DeepSeek's name
    count = _count(reported.get(given))
    usage.take(
        {
            "input_tokens": None if count is None else max(count - (read or 0) - (written or 0), 0),
            "output_tokens": reported.get(output),
            "cache_read_input_tokens": read,
            "cache_creation_input_tokens": written,
            "output_tokens_details": {"thinking_tokens": more.get("reasoning_tokens")},
            "service_tier": answer.get("service_tier"),
        }
    )


def _table(value: object) -> dict[str, Any]:
    return value if isinstance(value, dict) else {}


def _count(value: object) -> int | None:
    return value if type(value) is int and value >= 0 else None
