"""What translates for an upstream whose format is not the client's."""

from functools import lru_cache

import msgspec

from tokenferry.providers import Provider
from tokenferry.wire import Codec, Quirks, codec


def codec_for(provider: Provider, model: str) -> Codec | None:
    """What translates a Messages request for a provider's model, and its answer; None for one of that format."""
    if provider.wire_format != "openai":
        return None
    return _chat_codec(f"{provider.name}/{model}", provider.quirks, provider.max_output_tokens)


@lru_cache(maxsize=256)
def _chat_codec(domain: str, quirks: tuple[tuple[str, object], ...], most: int | None) -> Codec | None:
    known = msgspec.convert({**dict(quirks), "max_output_tokens": most}, Quirks)
    return codec("anthropic", "openai", known, domain=domain)
