"""Thought signatures on their way through a client, in a thinking block's signature, and ids of calls.

Gemini signs parts: a call, or a text. It wants a signature back on its part, and since its third generation refuses a
call that has lost its own: https://ai.google.dev/gemini-api/docs/thought-signatures
"""

import re
from typing import Final

from tokenferry.wire._envelope import opened, seal

OF_CALL: Final = "c"
"""A signature of the call after the block."""
OF_TEXT: Final = "t"
"""A signature of the text before the block."""
ALONE: Final = "a"
"""A signature of a part without a text, as streams end with."""
_PLACES: Final = frozenset((OF_CALL, OF_TEXT, ALONE))
_ISSUED: Final = "gemini_"
_ID: Final = re.compile(r"[A-Za-z0-9_-]{1,120}")


def sealed_signature(domain: str, place: str = "", signature: str = "") -> str:
    """The signature of a thinking block for what Gemini thought, and for what it signed."""
    return seal(domain, f"{place}{signature}" if signature else "")


def opened_signature(mark: str, domain: str) -> tuple[str, str] | None:
    """The place and the signature, empty for thoughts alone; None for what came from another model or account."""
    payload = opened(mark, domain)
    if payload is None:
        return None
    return (payload[0], payload[1:]) if payload[:1] in _PLACES else ("", "")


def client_id(issued: str | None) -> str | None:
    """The id that a client gets of a call to which Gemini gave one; None where it gave none that a client can have."""
    return f"{_ISSUED}{issued}" if issued and _ID.fullmatch(issued) else None


def issued_id(known: str) -> str | None:
    """The id that Gemini itself gave a call; None for one of another origin, which it may not take."""
    return known.removeprefix(_ISSUED) if known.startswith(_ISSUED) else None
