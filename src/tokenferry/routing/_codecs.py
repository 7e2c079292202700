"""What translates for an upstream whose format is not the client's."""

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
"""The last models of Anthropic's that take a temperature."""
_REASONING: Final = re.compile(r"(?:^|/)(?:gpt-[5-9](?!.*chat)|o[134](?:-|$))")
"""Models of OpenAI's that reason."""
_EFFORTS: Final = ("low", "medium", "high")
"""Those that all of them take."""
_GEMINI: Final = re.compile(r"gemini-(\d+)(?:\.\d+)?")
_THIRD: Final = 3
_SECOND: Final = 2


def codec_for(provider: Provider, target: Target, client: WireFormat, account: str = "") -> Codec | None:
    """What translates a client's request for a provider's target, and its answer; None where the bytes pass.

    Reasoning that is encrypted for an organization goes back to the account that it came from, and to no other.
    """
    upstream, domain, quirks = _asked(provider, target, account)
    return _codec(client, upstream, domain, quirks)


def count_codec_for(provider: Provider, target: Target, account: str = "") -> Codec | None:
    """What has an upstream of another format count the tokens of a Messages request; None for one that counts none."""
    upstream, domain, quirks = _asked(provider, target, account)
    return _count_codec(upstream, domain, quirks)


def _asked(provider: Provider, target: Target, account: str) -> tuple[WireFormat, str, tuple[tuple[str, object], ...]]:
    """The format of a target, what reasoning of it is marked with, and its quirks."""
    upstream: WireFormat = "gemini" if provider.dialect == "vertex" else provider.dialect
    most = provider.max_output_tokens if target.max_output_tokens is None else target.max_output_tokens
    own = (("max_output_tokens", most), ("drop", target.drop), ("vertex", provider.wire_format == "vertex"))
    quirks = (("documents", upstream == "gemini"), *_reasoning(upstream, target), *provider.quirks, *own)
    domain = f"{provider.name}/{target.model}"
    if upstream in {"openai-responses", "gemini"}:
        domain += f"/{sha256(account.encode()).hexdigest()[:_DIGEST]}"
    return upstream, domain, quirks


def _reasoning(upstream: WireFormat, target: Target) -> tuple[tuple[str, object], ...]:
    """How the model is asked to reason, as far as its mapping or its name says it."""
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
    """How a model of Gemini thinks: since 3 by level, 2.5 by a budget; a name without a number is of a newer one.

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
    """The form of thinking that a model of Anthropic's takes: since Claude 4.6 adaptive, from 3.7 to 4.5 a budget.

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
