"""Carries another model's thoughts through a Gemini client, in the signature of the part that follows them."""

from base64 import b64decode, b64encode
from binascii import Error
from collections.abc import Sequence
from typing import Any, Final, TypeAlias

import msgspec

from tokenferry.wire._envelope import PREFIX, opened, seal
from tokenferry.wire._json import encode
from tokenferry.wire.messages import _models as messages

Thought: TypeAlias = messages.ThinkingContent | messages.RedactedThinkingContent

SEALED_SIGNATURE: Final = b64encode(PREFIX.encode())
"""The beginning of every such signature."""
NO_SIGNATURE: Final = "skip_thought_signature_validator"
NO_SIGNATURES: Final = frozenset((NO_SIGNATURE, "context_engineering_is_the_way_to_go"))
"""Values that stand for a missing signature: https://ai.google.dev/gemini-api/docs/thought-signatures"""
_SPELLINGS: Final = ("thoughtSignature", "thought_signature")
_STANDARD: Final = str.maketrans("-_", "+/")


def sealed_thoughts(domain: str, thoughts: Sequence[Thought]) -> str:
    """Give the signature that holds these thoughts for their model. SDKs accept only base64."""
    fields = [
        (one.thinking, one.signature) if isinstance(one, messages.ThinkingContent) else (one.data,) for one in thoughts
    ]
    return b64encode(seal(domain, encode(fields).decode()).encode()).decode("ascii")


def opened_thoughts(signature: str, domain: str) -> list[Thought]:
    """Give the thoughts in a signature; none if another model wrote them."""
    if not signature.encode("utf-8", "replace").startswith(SEALED_SIGNATURE):
        return []
    try:
        mark = b64decode(f"{signature.rstrip('=').translate(_STANDARD)}==").decode()
        fields = msgspec.json.decode(opened(mark, domain) or "[]", type=list[list[str]])
    except (Error, ValueError):
        return []
    return [
        messages.ThinkingContent(thinking=one[0], signature=one[1])
        if len(one) > 1
        else messages.RedactedThinkingContent(data="".join(one))
        for one in fields
    ]


def without_signatures(body: bytes, *, keep_own: bool) -> bytes:
    """Give a request without signatures of other vendors, which Gemini's own API refuses.

    `keep_own=False` drops Gemini's own signatures, too. A call that loses one gets `NO_SIGNATURE`, since Gemini demands
    one of each step. A body that can't be read is returned unchanged.
    """
    try:
        document = msgspec.json.decode(body)
    except (ValueError, RecursionError):
        return body
    contents = document.get("contents") if isinstance(document, dict) else None
    for content in contents if isinstance(contents, list) else [contents]:
        parts = content.get("parts") if isinstance(content, dict) else None
        for part in parts if isinstance(parts, list) else [parts]:
            if isinstance(part, dict):
                _drop_signature(part, keep_own=keep_own)
    return encode(document)


def _drop_signature(part: dict[str, Any], *, keep_own: bool) -> None:
    for name in _SPELLINGS:
        signature = part.get(name)
        if signature is None or (
            keep_own and not str(signature).encode("utf-8", "replace").startswith(SEALED_SIGNATURE)
        ):
            continue
        del part[name]
        if not {"functionCall", "function_call"}.isdisjoint(part):
            part[name] = NO_SIGNATURE
