"""The `usage` of a Messages answer."""

from tokenferry.wire._codec import Tokens
from tokenferry.wire.messages._models import MessagesUsage


def read_usage(usage: MessagesUsage | None, before: Tokens | None = None) -> Tokens:
    """What was counted: what the usage leaves out is as before."""
    before = before or Tokens()
    if usage is None:
        return before
    return Tokens(
        input=_later(usage.input_tokens, before.input),
        output=_later(usage.output_tokens, before.output),
        cache_read=_later(usage.cache_read_input_tokens, before.cache_read),
        cache_creation=_later(usage.cache_creation_input_tokens, before.cache_creation),
    )


def _later(count: int | None, before: int | None) -> int | None:
    return before if count is None or count < 0 else count


def usage_object(counted: Tokens) -> dict[str, int]:
    """What a client gets of what was counted."""
    return {
        "input_tokens": counted.input or 0,
        "cache_creation_input_tokens": counted.cache_creation or 0,
        "cache_read_input_tokens": counted.cache_read or 0,
        "output_tokens": counted.output or 0,
    }
