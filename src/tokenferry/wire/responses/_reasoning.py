"""Carries reasoning through a client of the other format, marked with its issuer.

A reasoning item of Responses travels in a thinking block's signature. Claude's thinking travels in the encrypted
content of a reasoning item.
"""

from typing import Final

from tokenferry.wire._envelope import seal
from tokenferry.wire.messages import _models as messages
from tokenferry.wire.responses import _models as responses

_THINKING: Final = "t"
_REDACTED: Final = "r"


def sealed_item(domain: str, known: str | None, encrypted: str | None) -> str:
    """Give the signature of a thinking block that carries a reasoning item."""
    return seal(domain, f"{known or ''} {encrypted}" if encrypted else "")


def opened_item(payload: str | None, thinking: str) -> responses.ReasoningItem | None:
    """Give the reasoning item in the payload of a thinking block's signature; None if there is none."""
    known, _, encrypted = (payload or "").partition(" ")
    if not encrypted:
        return None
    summary = [responses.SummaryText(text=thinking)] if thinking else []
    return responses.ReasoningItem(id=known or None, summary=summary, encrypted_content=encrypted)


def sealed_thinking(domain: str, signature: str | None) -> str:
    """Give the encrypted content that carries a thinking block's signature; empty without one."""
    return seal(domain, _THINKING + signature) if signature else ""


def sealed_redacted(domain: str, data: str | None) -> str:
    """Give the encrypted content that carries redacted thinking."""
    return seal(domain, _REDACTED + (data or ""))


def opened_thinking(
    payload: str | None, thinking: str
) -> messages.ThinkingContent | messages.RedactedThinkingContent | None:
    """Give the thinking block in the payload of a reasoning item's encrypted content; None if there is none."""
    kind, value = (payload or "")[:1], (payload or "")[1:]
    if kind == _THINKING:
        return messages.ThinkingContent(thinking=thinking, signature=value)
    return messages.RedactedThinkingContent(data=value) if kind == _REDACTED else None
