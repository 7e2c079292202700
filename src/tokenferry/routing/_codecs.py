"""What translates for an upstream whose format is not the client's."""

from functools import lru_cache
from hashlib import sha256
from typing import Final

import msgspec

from tokenferry.pool import Target
from tokenferry.providers import Provider
from tokenferry.wire import Codec, Quirks, WireFormat, codec

_DIGEST: Final = 12


def codec_for(provider: Provider, target: Target, client: WireFormat, account: str = "") -> Codec | None:
    """What translates a client's request for a provider's target, and its answer; None for the client's own format.

    Reasoning that is encrypted for an organization goes back to the account that it came from, and to no other.
    """
    upstream = provider.wire_format
    if upstream in {client, "gemini"}:
        return None
    most = provider.max_output_tokens if target.max_output_tokens is None else target.max_output_tokens
    quirks = (*provider.quirks, ("max_output_tokens", most), ("drop", target.drop))
    domain = f"{provider.name}/{target.model}"
    if upstream == "openai-responses":
        domain += f"/{sha256(account.encode()).hexdigest()[:_DIGEST]}"
    return _codec(client, upstream, domain, quirks)


@lru_cache(maxsize=256)
def _codec(
    client: WireFormat, upstream: WireFormat, domain: str, quirks: tuple[tuple[str, object], ...]
) -> Codec | None:
    return codec(client, upstream, msgspec.convert(dict(quirks), Quirks), domain=domain)
