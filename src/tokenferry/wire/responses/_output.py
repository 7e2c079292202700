"""Writes the items and the document of a Responses answer."""

from typing import Any, Final, Literal, TypeAlias

import msgspec

from tokenferry.wire._codec import ClientTool, Sent, Tokens
from tokenferry.wire._ids import call_id

ItemStatus: TypeAlias = Literal["in_progress", "completed", "incomplete"]

_INCOMPLETE: Final = {
    "max_tokens": "max_output_tokens",
    "model_context_window_exceeded": "max_output_tokens",
    "refusal": "content_filter",
}


def response_id(known: str) -> str:
    """Give the answer's id by its id in the Messages API, in letters, digits, `_` and `-`."""
    return f"resp_{call_id(known.removeprefix('msg_') or '0', 'any')}"


def item_id(prefix: str, response: str, index: int) -> str:
    """Give the id of the item with this index in an answer; it is always the same."""
    return f"{prefix}_{response.removeprefix('resp_')}_{index}"


def text_part(text: str) -> dict[str, Any]:
    return {"type": "output_text", "text": text, "annotations": [], "logprobs": []}


def message_item(known: str, text: str, status: ItemStatus = "completed") -> dict[str, Any]:
    """Give the item for the model's text; without content while it is in progress."""
    content = [] if status == "in_progress" else [text_part(text)]
    return {"type": "message", "id": known, "status": status, "role": "assistant", "content": content}


def reasoning_item(known: str, text: str, encrypted: str) -> dict[str, Any]:
    """Give the item for reasoning. `encrypted` is what the model wants back; empty for nothing."""
    summary = [{"type": "summary_text", "text": text}] if text else []
    return {"type": "reasoning", "id": known, "summary": summary, "encrypted_content": encrypted or None}


def call_item(
    known: str, call: str, tool: ClientTool, arguments: str, status: ItemStatus = "completed"
) -> dict[str, Any]:
    """Give the item for a call. The arguments of a custom tool are its input string."""
    item: dict[str, Any] = {"id": known, "call_id": call, "name": tool.name, "status": status}
    if tool.namespace:
        item["namespace"] = tool.namespace
    if tool.is_custom:
        return {"type": "custom_tool_call", **item, "input": arguments}
    return {"type": "function_call", **item, "arguments": arguments}


def custom_input(arguments: str) -> str:
    """Give a custom tool's input string; the arguments unchanged if they hold none."""
    try:
        found = msgspec.json.decode(arguments)
    except (ValueError, RecursionError):
        return arguments
    text = found.get("input") if isinstance(found, dict) else None
    return text if isinstance(text, str) else arguments


def response_document(
    known: str, model: str, sent: Sent, *, status: str = "in_progress", **fields: Any
) -> dict[str, Any]:
    """Give the document of an answer. `fields` replace the values of an answer that has just begun."""
    return {
        "id": known,
        "object": "response",
        "created_at": sent.at,
        "status": status,
        "error": None,
        "incomplete_details": None,
        "instructions": None,
        "metadata": {},
        "model": model,
        "output": [],
        "parallel_tool_calls": True,
        "previous_response_id": None,
        "store": False,
        "temperature": None,
        "text": {"format": {"type": "text"}},
        "tool_choice": "auto",
        "tools": [],
        "top_p": None,
        "truncation": "disabled",
        "usage": None,
        **fields,
    }


def end_fields(stop: str | None, output: list[dict[str, Any]], counted: Tokens) -> dict[str, Any]:
    """Give the fields that a finished answer's document sets."""
    reason = _INCOMPLETE.get(stop or "")
    status = "incomplete" if reason else "completed"
    details = {"reason": reason} if reason else None
    return {"status": status, "incomplete_details": details, "output": output, "usage": _usage_object(counted)}


def _usage_object(counted: Tokens) -> dict[str, Any]:
    """Give the `usage`. Its input includes what the cache read and wrote."""
    read, written, output = counted.cache_read or 0, counted.cache_creation or 0, counted.output or 0
    given = (counted.input or 0) + read + written
    return {
        "input_tokens": given,
        "input_tokens_details": {"cached_tokens": read, "cache_write_tokens": written},
        "output_tokens": output,
        "output_tokens_details": {"reasoning_tokens": counted.thinking or 0},
        "total_tokens": given + output,
    }
