"""Explain where programs find their credential on this machine: in which order, which one wins, and why."""

from tokenferry.claude_code.precedence._claude_code import (
    CLAUDE_CODES_DEFAULT,
    CLOUD_PROVIDERS,
    claude_code_chain,
    is_ours,
)
from tokenferry.claude_code.precedence._claude_settings import personal_settings, settings_files, user_settings
from tokenferry.claude_code.precedence._machine import Machine, Seen, look
from tokenferry.claude_code.precedence._sdk import sdk_chain
from tokenferry.claude_code.precedence._values import Chain, CredentialOrigin, Held, plain_url

__all__ = [
    "CLAUDE_CODES_DEFAULT",
    "CLOUD_PROVIDERS",
    "Chain",
    "CredentialOrigin",
    "Held",
    "Machine",
    "Seen",
    "claude_code_chain",
    "is_ours",
    "look",
    "personal_settings",
    "plain_url",
    "sdk_chain",
    "settings_files",
    "user_settings",
]
