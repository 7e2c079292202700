"""Reads and writes whole Messages answers."""

from typing import Any, Final

import msgspec

from tokenferry.errors import UnreadableAnswer
from tokenferry.wire._codec import Sent, Tokens, count, table
from tokenferry.wire._json import answer_decoder, is_object, json_text
from tokenferry.wire.messages._models import MessagesAnswer

_decode: Final = answer_decoder(MessagesAnswer)


def read_answer(body: bytes) -> MessagesAnswer:
    """Raises `UnreadableAnswer`."""
    try:
        return _decode(body)
    except (ValueError, RecursionError) as fault:
        raise UnreadableAnswer(f"the upstream's answer is not a message: {fault}") from None


def message_document(
    known: str, model: str, blocks: list[dict[str, Any]], stop_reason: str | None, counted: Tokens
) -> dict[str, Any]:
    """Give the document of an answer."""
    return {
        "id": known,
        "type": "message",
        "role": "assistant",
        "model": model,
        "content": blocks,
        "stop_reason": stop_reason,
        "stop_sequence": None,
        "usage": usage_object(counted),
    }


def tool_use_block(known: str, name: str | None, arguments: object, sent: Sent, *, is_cut: bool) -> dict[str, Any]:
    """Give the block for a tool call. Raises `UnreadableAnswer` without a name.

    It does so, too, for arguments that are not a JSON object, unless a limit cut the answer (`is_cut`).
    """
    if not name:
        raise UnreadableAnswer("the upstream's answer calls a tool without its name")
    arguments = json_text(arguments)
    if not isinstance(arguments, str) or not is_object(arguments):
        if not is_cut:
            raise UnreadableAnswer(f"the arguments of the model's call of {name[:80]!r} are not a JSON object")
        arguments = "{}"
    name = sent.names.get(name, name)
    return {"type": "tool_use", "id": known, "name": name, "input": msgspec.Raw(arguments.encode())}


def read_usage(usage: Any, before: Tokens | None = None) -> Tokens:
    """Give the token counts of a `usage` object. A count that it lacks stays as `before`."""
    before, reported = before or Tokens(), table(usage)
    details = table(reported.get("output_tokens_details"))
    return Tokens(
        input=_later(reported.get("input_tokens"), before.input),
        output=_later(reported.get("output_tokens"), before.output),
        cache_read=_later(reported.get("cache_read_input_tokens"), before.cache_read),
        cache_creation=_later(reported.get("cache_creation_input_tokens"), before.cache_creation),
        thinking=_later(details.get("thinking_tokens"), before.thinking),
    )


def _later(value: Any, before: int | None) -> int | None:
    return before if (known := count(value)) is None else known


def usage_object(counted: Tokens) -> dict[str, Any]:
    """Give the `usage` of an answer."""
    return {
        "input_tokens": counted.input or 0,
        "cache_creation_input_tokens": counted.cache_creation or 0,
        "cache_read_input_tokens": counted.cache_read or 0,
        "output_tokens": counted.output or 0,
        **({} if counted.thinking is None else {"output_tokens_details": {"thinking_tokens": counted.thinking}}),
    }
