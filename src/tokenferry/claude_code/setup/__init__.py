"""Claude Code's settings, edited so that it asks tokenferry for its credential."""

from tokenferry.claude_code.setup._setup import API_KEY_HELPER, BASE_URL, ClaudeCodeSetup, SetupPlan
from tokenferry.claude_code.setup._text import HiddenText, JsonText, Keys

__all__ = ["API_KEY_HELPER", "BASE_URL", "ClaudeCodeSetup", "HiddenText", "JsonText", "Keys", "SetupPlan"]
