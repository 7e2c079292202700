"""Another model's thoughts on their way through a client of Gemini, in the signature of the part that follows them."""

from base64 import b64decode, b64encode
from binascii import Error
from collections.abc import Sequence
from typing import Final, TypeAlias

import msgspec

from tokenferry.wire._envelope import PREFIX, opened, seal
from tokenferry.wire._json import encode
from tokenferry.wire.messages import _models as messages

Thought: TypeAlias = messages.ThinkingContent | messages.RedactedThinkingContent

SEALED_SIGNATURE: Final = b64encode(PREFIX.encode()).decode("ascii")
"""What each of them begins with."""
NO_SIGNATURES: Final = frozenset(("skip_thought_signature_validator", "context_engineering_is_the_way_to_go"))
"""What clients send in place of one: https://ai.google.dev/gemini-api/docs/thought-signatures"""
_STANDARD: Final = str.maketrans("-_", "+/")


def sealed_thoughts(domain: str, thoughts: Sequence[Thought]) -> str:
    """The signature for these thoughts, which the model that had them wants back. SDKs take base64 alone."""
    told = [
        (one.thinking, one.signature) if isinstance(one, messages.ThinkingContent) else (one.data,) for one in thoughts
    ]
    return b64encode(seal(domain, encode(told).decode()).encode()).decode("ascii")


def opened_thoughts(signature: str, domain: str) -> list[Thought]:
    """The thoughts in a signature; none where they were another model's."""
    if not signature.startswith(SEALED_SIGNATURE):
        return []
    try:
        mark = b64decode(f"{signature.rstrip('=').translate(_STANDARD)}==").decode()
        told = msgspec.json.decode(opened(mark, domain) or "[]", type=list[list[str]])
    except (Error, ValueError):
        return []
    return [
        messages.ThinkingContent(thinking=one[0], signature=one[1])
        if len(one) > 1
        else messages.RedactedThinkingContent(data="".join(one))
        for one in told
    ]
