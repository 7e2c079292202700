"""What translates for an upstream whose format is not the client's."""

from functools import lru_cache

import msgspec

from tokenferry.pool import Target
from tokenferry.providers import Provider
from tokenferry.wire import Codec, Quirks, WireFormat, codec


def codec_for(provider: Provider, target: Target, client: WireFormat) -> Codec | None:
    """What translates a client's request for a provider's target, and its answer; None for the client's own format."""
    upstream = provider.wire_format
    if upstream in {client, "gemini"}:
        return None
    most = provider.max_output_tokens if target.max_output_tokens is None else target.max_output_tokens
    quirks = (*provider.quirks, ("max_output_tokens", most), ("drop", target.drop))
    return _codec(client, upstream, f"{provider.name}/{target.model}", quirks)


@lru_cache(maxsize=256)
def _codec(
    client: WireFormat, upstream: WireFormat, domain: str, quirks: tuple[tuple[str, object], ...]
) -> Codec | None:
    return codec(client, upstream, msgspec.convert(dict(quirks), Quirks), domain=domain)
