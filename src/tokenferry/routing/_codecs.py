"""Chooses the codec for a target, and its quirks by provider, mapping and name of the model."""

import re
from functools import lru_cache
from hashlib import sha256
from typing import Final

import msgspec

from tokenferry.pool import Target
from tokenferry.providers import Provider
from tokenferry.wire import Codec, Quirks, WireFormat, codec, count_codec

_DIGEST: Final = 12
_CLAUDE: Final = re.compile(r"(?:^|[./])claude-[a-z]*-?\d")
_BEFORE_THINKING: Final = re.compile(r"claude-(?:[12]|3-(?!7))")
_BUDGET: Final = re.compile(r"claude-(?:3-7|(?:opus|sonnet|haiku)-4(?:-[0-5])?(?:-(?:\d{8}|latest))?(?:$|[@:]|-v\d))")
_LAST_SAMPLED: Final = re.compile(r"claude-[a-z]+-4-6")
"""Anthropic's last models that accept a temperature."""
_REASONING: Final = re.compile(r"(?:^|/)(?:gpt-[5-9](?!.*chat)|o[134](?:-|$))")
"""OpenAI's reasoning models."""
_EFFORTS: Final = ("low", "medium", "high")
"""The efforts that all of them accept."""
_GEMINI: Final = re.compile(r"gemini-(\d+)(?:\.\d+)?")
_THIRD: Final = 3
_SECOND: Final = 2


def codec_for(provider: Provider, target: Target, client: WireFormat, account: str = "") -> Codec | None:
    """Give the codec for a client's format and a provider's target; None if the bytes pass unchanged.

    Reasoning that is encrypted for an organization goes back only to the account that it came from.
    """
    upstream, domain, quirks = _traits(provider, target, account)
    return _codec(client, upstream, domain, quirks)


def count_codec_for(provider: Provider, target: Target, account: str = "") -> Codec | None:
    """Give the codec for counting the tokens of a Messages request; None if the upstream counts none."""
    upstream, domain, quirks = _traits(provider, target, account)
    return _count_codec(upstream, domain, quirks)


def _traits(provider: Provider, target: Target, account: str) -> tuple[WireFormat, str, tuple[tuple[str, object], ...]]:
    """Give the format of a target, the domain that marks its reasoning, and its quirks."""
    upstream: WireFormat = "gemini" if provider.dialect == "vertex" else provider.dialect
    most = provider.max_output_tokens if target.max_output_tokens is None else target.max_output_tokens
    own = (("max_output_tokens", most), ("drop", target.drop), ("vertex", provider.wire_format == "vertex"))
    quirks = (("documents", upstream == "gemini"), *_reasoning(upstream, target), *provider.quirks, *own)
    domain = f"{provider.name}/{target.model}"
    if upstream in {"openai-responses", "gemini"}:
        domain += f"/{sha256(account.encode()).hexdigest()[:_DIGEST]}"
    return upstream, domain, quirks


def _reasoning(upstream: WireFormat, target: Target) -> tuple[tuple[str, object], ...]:
    """Give the quirks about reasoning, by the mapping or the model's name."""
    if upstream == "anthropic":
        form = thinking_of(target.model)
        is_sampled = form != "adaptive" or _LAST_SAMPLED.search(target.model) is not None
        return (("thinking", "never" if target.efforts == () else form), ("temperature", is_sampled))
    if upstream == "gemini":
        return gemini_thinking(target.model, target.efforts)
    if target.efforts is not None:
        return (("efforts", target.efforts),)
    return (("efforts", _EFFORTS),) if upstream == "openai-responses" and _REASONING.search(target.model) else ()


@lru_cache(maxsize=1024)
def gemini_thinking(model: str, efforts: tuple[str, ...] | None) -> tuple[tuple[str, object], ...]:
    """Give the quirks about a Gemini model's thinking: since 3 a level, in 2.5 a budget. A name without number is new.

    https://ai.google.dev/gemini-api/docs/thinking
    """
    found = _GEMINI.search(model)
    generation = int(found[1]) if found else _THIRD if "gemini" in model else 0
    if efforts == () or generation < _SECOND or (generation == _SECOND and "2.5" not in model):
        return (("thinking", "never"),)
    if generation == _SECOND:
        return (("thinking", "budget"), ("budgets", (128, 32_768) if "pro" in model else (0, 24_576)))
    levels = ("minimal", *_EFFORTS) if "flash" in model else ("low", "high") if "gemini-3-pro" in model else _EFFORTS
    return (("thinking", "level"), ("efforts", efforts or levels))


@lru_cache(maxsize=1024)
def thinking_of(model: str) -> str:
    """Give the form of thinking of Anthropic's models: since Claude 4.6 adaptive, from 3.7 to 4.5 a budget.

    https://platform.claude.com/docs/en/build-with-claude/adaptive-thinking
    """
    if _CLAUDE.search(model) is None or _BEFORE_THINKING.search(model):
        return "never"
    return "budget" if _BUDGET.search(model) else "adaptive"


@lru_cache(maxsize=256)
def _codec(
    client: WireFormat, upstream: WireFormat, domain: str, quirks: tuple[tuple[str, object], ...]
) -> Codec | None:
    return codec(client, upstream, msgspec.convert(dict(quirks), Quirks), domain=domain)


@lru_cache(maxsize=256)
def _count_codec(upstream: WireFormat, domain: str, quirks: tuple[tuple[str, object], ...]) -> Codec | None:
    return count_codec(upstream, msgspec.convert(dict(quirks), Quirks), domain=domain)
