"""Claude Code's settings, edited so that it asks tokenferry for its credential."""

from tokenferry.integrations.claude_code._setup import API_KEY_HELPER, BASE_URL, ClaudeCodeSetup, SetupPlan
from tokenferry.integrations.claude_code._text import HiddenText, JsonText, Keys

__all__ = ["API_KEY_HELPER", "BASE_URL", "ClaudeCodeSetup", "HiddenText", "JsonText", "Keys", "SetupPlan"]
