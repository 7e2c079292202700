"""Bodies of the shape that Claude Code 2.1.329 sends: the keys in their order, what names models; none of its words."""

import json
from typing import Any, Final

AGENT: Final = {
    "name": "Agent",
    "description": "Launch an agent.",
    "input_schema": {
        "type": "object",
        "properties": {
            "prompt": {"type": "string"},
            "model": {"type": "string", "enum": ["sonnet", "opus", "haiku"]},
        },
        "required": ["prompt"],
    },
}
WEB_SEARCH: Final = {"name": "WebSearch", "description": "Search the web.", "input_schema": {"type": "object"}}
SERVERS_SEARCH: Final = {"type": "web_search_20250305", "name": "web_search", "max_uses": 8}


def body(
    model: str = "claude-opus-5-5",
    *,
    third: str = "\nYou are an agent — “working” with the user.\n",
    thinking: dict[str, Any] | None = None,
    tools: list[dict[str, Any]] | None = None,
    size: int = 49_000,
) -> bytes:
    """A session's first request, of about so many bytes: compact, and not in ASCII alone, as JavaScript writes."""
    document = {
        "model": model,
        "messages": [
            {
                "role": "user",
                "content": [
                    {"type": "text", "text": '<system-reminder>\nThe "model": "x" is none — nor {\'model\':1}.\n'},
                    {"type": "text", "text": "hi ⛴", "cache_control": {"type": "ephemeral"}},
                ],
            }
        ],
        "system": [
            {"type": "text", "text": "x-anthropic-billing-header: cc_version=2.1.329.3c4; cc_entrypoint=sdk-cli;"},
            {"type": "text", "text": "You are an agent.", "cache_control": {"type": "ephemeral"}},
            {"type": "text", "text": third, "cache_control": {"type": "ephemeral"}},
        ],
        "tools": [AGENT, WEB_SEARCH] if tools is None else tools,
        "metadata": {"user_id": '{"device_id":"0","session_id":"7f3a1c02-8f55-4a4e-9d3a-0c7e2b1f4d66"}'},
        "max_tokens": 64_000,
        "thinking": {"type": "adaptive", "display": "omitted"} if thinking is None else thinking,
        "context_management": {"edits": [{"type": "clear_thinking_20251015", "keep": "all"}]},
        "output_config": {"effort": "medium"},
        "stream": True,
    }
    written = json.dumps(document, ensure_ascii=False, separators=(",", ":")).encode()
    filler = "— “quoted” text\\n" * (max(0, size - len(written)) // 22)
    return written.replace(b"You are an agent.", b"You are an agent." + filler.encode(), 1)
