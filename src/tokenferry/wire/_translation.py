"""Chooses the codec between two formats. Codecs are imported when first used: most commands need none."""

# ruff: noqa: PLC0415

from msgspec import structs

from tokenferry.wire._chain import CodecChain
from tokenferry.wire._codec import Codec, WireFormat
from tokenferry.wire._quirks import Quirks

_DEFAULTS = Quirks()


def codec(client: WireFormat, upstream: WireFormat, quirks: Quirks = _DEFAULTS, *, domain: str = "") -> Codec | None:
    """Give the codec for a client's format and an upstream's; None for the same format, whose bytes pass unchanged.

    Vertex AI serves Gemini's format below another path, so a client of Gemini has a codec there, too.
    `domain` names the upstream and the family of its model; reasoning goes back only there.
    """
    if client == upstream:
        return _on_vertex(quirks) if quirks.vertex else None
    if upstream == "anthropic":
        return _to_messages(client, quirks, domain, is_last=True)
    there = _from_messages(upstream, quirks, domain)
    if client == "anthropic":
        return there
    can_think = bool(quirks.efforts) or (upstream == "gemini" and quirks.thinking != "never")
    asking = structs.replace(quirks, thinking="adaptive" if can_think else "never")
    return CodecChain(_to_messages(client, asking, domain, is_last=False), there)


def count_codec(upstream: WireFormat, quirks: Quirks = _DEFAULTS, *, domain: str = "") -> Codec | None:
    """Give the codec for counting the tokens of a Messages request; None if the format counts none."""
    if upstream != "gemini":
        return None
    from tokenferry.wire.gemini._codecs import CountOnGemini

    return CountOnGemini(quirks, domain)


def load_codecs() -> None:
    """Import all codecs, so that no request waits for it: 17 ms."""
    for one in ("openai", "openai-responses", "gemini"):
        _from_messages(one, _DEFAULTS, "")
    _on_vertex(_DEFAULTS)


def _on_vertex(quirks: Quirks) -> Codec:
    from tokenferry.wire.gemini._on_vertex import GeminiOnVertex

    return GeminiOnVertex(quirks)


def _from_messages(upstream: WireFormat, quirks: Quirks, domain: str) -> Codec:
    if upstream == "openai":
        from tokenferry.wire.chat._codecs import MessagesToChat

        return MessagesToChat(quirks, domain)
    if upstream == "gemini":
        from tokenferry.wire.gemini._codecs import MessagesToGemini

        return MessagesToGemini(quirks, domain)
    from tokenferry.wire.responses._codecs import MessagesToResponses

    return MessagesToResponses(quirks, domain)


def _to_messages(client: WireFormat, quirks: Quirks, domain: str, *, is_last: bool) -> Codec:
    if client == "openai":
        from tokenferry.wire.chat._codecs import ChatToMessages

        return ChatToMessages(quirks, is_last=is_last)
    if client == "gemini":
        from tokenferry.wire.gemini._codecs import GeminiToMessages

        return GeminiToMessages(quirks, domain, is_last=is_last)
    from tokenferry.wire.responses._codecs import ResponsesToMessages

    return ResponsesToMessages(quirks, domain, is_last=is_last)
