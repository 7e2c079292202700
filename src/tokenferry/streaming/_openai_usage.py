"""Reads the `usage` of OpenAI's formats, which differ in the names of its fields."""

from typing import Any

from tokenferry.streaming._usage import TokenUsage, token_count


def take_openai_usage(answer: dict[str, Any], usage: TokenUsage, *, given: str, output: str) -> None:
    """Read the usage of an answer. `given` and `output` name the fields of input and output.

    The input includes what the cache read and wrote.
    """
    reported = answer.get("usage")
    if not isinstance(reported, dict):
        return
    details, more = _table(reported.get(f"{given}_details")), _table(reported.get(f"{output}_details"))
    read, written = token_count(details.get("cached_tokens")), token_count(details.get("cache_write_tokens"))
    if read is None:
        read = token_count(reported.get("prompt_cache_hit_tokens"))  # DeepSeek's name
    count = token_count(reported.get(given))
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
