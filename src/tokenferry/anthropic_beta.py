"""The header `anthropic-beta`: the value that OAuth tokens need, and the merge of values."""

from collections.abc import Iterable
from typing import Final

__all__ = ["OAUTH_BETA", "merge_beta"]

OAUTH_BETA: Final = "oauth-2025-04-20"
"""Without it Anthropic refuses an OAuth token."""


def merge_beta(existing: Iterable[str], ours: Iterable[str]) -> str:
    """Merge `anthropic-beta` values: existing ones first, split on commas, each once; empty without one."""
    names = (name.strip() for value in (*existing, *ours) for name in value.split(","))
    return ",".join(dict.fromkeys(name for name in names if name))
