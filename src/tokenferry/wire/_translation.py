from msgspec import structs

from tokenferry.wire._chain import CodecChain
from tokenferry.wire._codec import Codec, WireFormat
from tokenferry.wire._quirks import Quirks
from tokenferry.wire.chat._codecs import ChatToMessages, MessagesToChat
from tokenferry.wire.responses._codecs import MessagesToResponses, ResponsesToMessages

_DEFAULTS = Quirks()


def codec(client: WireFormat, upstream: WireFormat, quirks: Quirks = _DEFAULTS, *, domain: str = "") -> Codec | None:
    """What translates for a client of one format and an upstream of another; None for the same: the bytes pass.

    `domain` names the upstream and the family of its model. Reasoning goes back to it alone.
    """
    if client == upstream:
        return None
    if upstream == "anthropic":
        return _to_messages(client, quirks, domain, is_last=True)
    there = MessagesToChat(quirks, domain) if upstream == "openai" else MessagesToResponses(quirks, domain)
    if client == "anthropic":
        return there
    asking = structs.replace(quirks, thinking="adaptive" if quirks.efforts else "never")
    return CodecChain(_to_messages(client, asking, domain, is_last=False), there)


def _to_messages(client: WireFormat, quirks: Quirks, domain: str, *, is_last: bool) -> Codec:
    if client == "openai":
        return ChatToMessages(quirks, is_last=is_last)
    return ResponsesToMessages(quirks, domain, is_last=is_last)
