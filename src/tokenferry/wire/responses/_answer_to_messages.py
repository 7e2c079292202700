"""A whole answer of the Responses API as one of the Messages API."""

from typing import Any, Final

import msgspec

from tokenferry.errors import UnreadableAnswer
from tokenferry.wire._codec import Sent, Tokens
from tokenferry.wire._ids import made_up_id
from tokenferry.wire._json import encode, is_object
from tokenferry.wire.messages._usage import usage_object
from tokenferry.wire.responses._meaning import fault_of, is_cut, message_text, reasoning_text, stop_reason, tokens
from tokenferry.wire.responses._models import AnswerItem, ResponsesAnswer
from tokenferry.wire.responses._reasoning import sealed_item

_decoder: Final = msgspec.json.Decoder(ResponsesAnswer)


def answer_to_messages(body: bytes, sent: Sent, domain: str) -> tuple[bytes, Tokens]:
    """Raises `UnreadableAnswer` for an error with status 200, and for calls that are no JSON."""
    try:
        answer = _decoder.decode(body)
    except (ValueError, RecursionError) as fault:
        raise UnreadableAnswer(f"the upstream's answer is none of the Responses API: {fault}") from None
    if (failed := fault_of(answer)) is not None:
        raise UnreadableAnswer(f"the upstream answered with an error: {failed.message}", status=failed.status)
    if answer.output is None:
        raise UnreadableAnswer("the upstream's answer has no output")
    known = f"msg_{answer.id or ''}"
    blocks: list[dict[str, Any]] = []
    is_refused = False
    for place, item in enumerate(answer.output):
        if item.type == "message":
            text, is_refusal = message_text(item)
            is_refused |= is_refusal
            if text:
                blocks.append({"type": "text", "text": text})
        elif item.type == "reasoning":
            thoughts = reasoning_text(item)
            if thoughts or item.encrypted_content:
                mark = sealed_item(domain, item.id, item.encrypted_content)
                blocks.append({"type": "thinking", "thinking": thoughts, "signature": mark})
        elif item.type == "function_call":
            blocks.append(_call(item, made_up_id(known, place), sent, is_cut=is_cut(answer)))
    counted = tokens(answer.usage)
    has_calls = any(block["type"] == "tool_use" for block in blocks)
    message = {
        "id": known,
        "type": "message",
        "role": "assistant",
        "model": answer.model or sent.model,
        "content": blocks,
        "stop_reason": stop_reason(answer, has_calls=has_calls, is_refused=is_refused),
        "stop_sequence": None,
        "usage": usage_object(counted),
    }
    return encode(message), counted


def _call(item: AnswerItem, made_up: str, sent: Sent, *, is_cut: bool) -> dict[str, Any]:
    if not item.name:
        raise UnreadableAnswer("the upstream's answer calls a tool without its name")
    arguments = item.arguments or "{}"
    if not isinstance(arguments, str) or not is_object(arguments):
        if not is_cut:
            raise UnreadableAnswer(f"the arguments of the model's call of {item.name[:80]!r} are no JSON object")
        arguments = "{}"
    name = sent.names.get(item.name, item.name)
    given = msgspec.Raw(arguments.encode())
    return {"type": "tool_use", "id": item.call_id or item.id or made_up, "name": name, "input": given}
