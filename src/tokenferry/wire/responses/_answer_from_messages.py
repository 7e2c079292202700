"""Translates a whole Messages answer to the Responses API."""

from typing import Any

from tokenferry.wire._codec import ClientTool, Sent, Tokens
from tokenferry.wire._json import encode
from tokenferry.wire.messages._answer import read_answer, read_usage
from tokenferry.wire.messages._models import AnswerBlock
from tokenferry.wire.responses._output import (
    call_item,
    custom_input,
    end_fields,
    item_id,
    message_item,
    reasoning_item,
    response_document,
    response_id,
    text_part,
)
from tokenferry.wire.responses._reasoning import sealed_redacted, sealed_thinking


def answer_from_messages(body: bytes, sent: Sent, domain: str) -> tuple[bytes, Tokens]:
    """Translate an answer, and give its tokens. Raises `UnreadableAnswer`."""
    answer = read_answer(body)
    known = response_id(answer.id)
    output: list[dict[str, Any]] = []
    for block in answer.content:
        before = output[-1] if output else None
        if (
            block.type == "text" and before is not None and before["type"] == "message"
        ):  # Claude splits a text at citations
            before["content"] = [text_part(before["content"][0]["text"] + (block.text or ""))]
        elif (item := _item(block, known, len(output), sent, domain)) is not None:
            output.append(item)
    counted = read_usage(answer.usage)
    fields = end_fields(answer.stop_reason, output, counted)
    return encode(response_document(known, answer.model or sent.model, sent, **fields)), counted


def _item(block: AnswerBlock, response: str, index: int, sent: Sent, domain: str) -> dict[str, Any] | None:
    match block.type:
        case "text" if block.text:
            return message_item(item_id("msg", response, index), block.text)
        case "thinking":
            mark = sealed_thinking(domain, block.signature)
            return reasoning_item(item_id("rs", response, index), block.thinking or "", mark)
        case "redacted_thinking":
            return reasoning_item(item_id("rs", response, index), "", sealed_redacted(domain, block.data))
        case "tool_use":
            tool = sent.tools.get(block.name or "") or ClientTool(block.name or "")
            arguments = bytes(block.input).decode("utf-8", "replace")
            given = custom_input(arguments) if tool.is_custom else arguments
            return call_item(item_id("fc", response, index), block.id or "", tool, given)
    return None
