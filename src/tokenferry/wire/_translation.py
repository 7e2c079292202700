from tokenferry.wire._codec import Codec, WireFormat
from tokenferry.wire._quirks import Quirks
from tokenferry.wire.chat._codecs import ChatToMessages, MessagesToChat

_DEFAULTS = Quirks()


def codec(client: WireFormat, upstream: WireFormat, quirks: Quirks = _DEFAULTS, *, domain: str = "") -> Codec | None:
    """What translates for a client of one format and an upstream of another; None for the same: the bytes pass."""
    if client == upstream:
        return None
    return MessagesToChat(quirks, domain) if upstream == "openai" else ChatToMessages(quirks)
