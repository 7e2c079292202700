"""What translates for an upstream whose format is not the client's."""

from functools import lru_cache

import msgspec

from tokenferry.pool import Target
from tokenferry.providers import Provider
from tokenferry.wire import Codec, Quirks, codec


def codec_for(provider: Provider, target: Target) -> Codec | None:
    """What translates a Messages request for a provider's target, and its answer; None for one of that format."""
    if provider.wire_format != "openai":
        return None
    most = provider.max_output_tokens if target.max_output_tokens is None else target.max_output_tokens
    return _chat_codec(f"{provider.name}/{target.model}", provider.quirks, most, target.drop)


@lru_cache(maxsize=256)
def _chat_codec(
    domain: str, quirks: tuple[tuple[str, object], ...], most: int | None, drop: tuple[str, ...]
) -> Codec | None:
    known = msgspec.convert({**dict(quirks), "max_output_tokens": most, "drop": drop}, Quirks)
    return codec("anthropic", "openai", known, domain=domain)
