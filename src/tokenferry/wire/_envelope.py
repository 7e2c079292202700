"""What marks reasoning with its issuer, in the one field of a thinking block that clients keep: its signature."""

from base64 import urlsafe_b64encode
from typing import Any, Final

import msgspec

PREFIX: Final = "tokenferry.reasoning."
SEALED: Final = PREFIX.encode()
"""What a body holds if it may hold reasoning of a translated answer."""


def seal(domain: str) -> str:
    """The signature of reasoning by this domain: a provider and a family of its models."""
    return PREFIX + urlsafe_b64encode(domain.encode()).decode("ascii")


def is_of(signature: str, domain: str) -> bool:
    """Tell whether reasoning with this signature came from this domain, so that it may go back there."""
    return signature == seal(domain)


def without_sealed(body: bytes) -> bytes:
    """A Messages request without thinking blocks that only a translated upstream knows: Anthropic's API refuses them.

    A turn of nothing else is left out, too. What can't be read is given back as it is.
    """
    try:
        document = msgspec.json.decode(body)
    except (ValueError, RecursionError):
        return body
    turns = document.get("messages") if isinstance(document, dict) else None
    if not isinstance(turns, list):
        return body
    document["messages"] = [kept for turn in turns if (kept := _without_sealed(turn)) is not None]
    return msgspec.json.encode(document)


def _without_sealed(turn: Any) -> Any:
    content = turn.get("content") if isinstance(turn, dict) else None
    if not isinstance(content, list):
        return turn
    kept = [block for block in content if not _is_sealed(block)]
    return turn if len(kept) == len(content) else {**turn, "content": kept} if kept else None


def _is_sealed(block: Any) -> bool:
    signature = block.get("signature") if isinstance(block, dict) and block.get("type") == "thinking" else None
    return isinstance(signature, str) and signature.startswith(PREFIX)
