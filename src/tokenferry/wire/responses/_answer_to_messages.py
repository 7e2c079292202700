"""Translates a whole answer of the Responses API to the Messages API."""

from typing import Any, Final

from tokenferry.errors import UnreadableAnswer
from tokenferry.wire._codec import Sent, Tokens
from tokenferry.wire._ids import AnswerIds
from tokenferry.wire._json import answer_decoder, encode
from tokenferry.wire.messages._answer import message_document, tool_use_block
from tokenferry.wire.responses._meaning import fault_of, is_cut, message_text, reasoning_text, stop_reason, tokens
from tokenferry.wire.responses._models import ResponsesAnswer
from tokenferry.wire.responses._reasoning import sealed_item

_decode: Final = answer_decoder(ResponsesAnswer)


def answer_to_messages(body: bytes, sent: Sent, domain: str) -> tuple[bytes, Tokens]:
    """Translate an answer, and give its tokens. Raises `UnreadableAnswer`, also for an error with status 200."""
    try:
        answer = _decode(body)
    except (ValueError, RecursionError) as fault:
        raise UnreadableAnswer(f"the upstream's answer is not one of the Responses API: {fault}") from None
    if (failed := fault_of(answer)) is not None:
        raise UnreadableAnswer(f"the upstream answered with an error: {failed.message}", status=failed.status)
    if answer.output is None:
        raise UnreadableAnswer("the upstream's answer has no output")
    known = f"msg_{answer.id or ''}"
    blocks: list[dict[str, Any]] = []
    ids, is_refused = AnswerIds(), False
    for item in answer.output:
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
            call = ids.give(known, item.call_id)
            blocks.append(tool_use_block(call, item.name, item.arguments, sent, is_cut=is_cut(answer)))
    counted = tokens(answer.usage)
    has_calls = any(block["type"] == "tool_use" for block in blocks)
    reason = stop_reason(answer, has_calls=has_calls, is_refused=is_refused)
    return encode(message_document(known, answer.model or sent.model, blocks, reason, counted)), counted
