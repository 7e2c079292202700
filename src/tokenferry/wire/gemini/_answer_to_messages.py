"""Translates a whole Gemini answer to the Messages API."""

from typing import Any, Final

import msgspec

from tokenferry.errors import UnreadableAnswer
from tokenferry.wire._codec import Sent, Tokens
from tokenferry.wire._envelope import seal
from tokenferry.wire._faults import read_fault
from tokenferry.wire._ids import AnswerIds
from tokenferry.wire._json import answer_decoder, encode, is_object
from tokenferry.wire.gemini._meaning import client_id, end_fault, prompt_fault, stop_reason, tokens
from tokenferry.wire.gemini._models import AnswerCall, AnswerPart, GenerateContentAnswer
from tokenferry.wire.messages._answer import message_document

_decode: Final = answer_decoder(GenerateContentAnswer)


class TokenCount(msgspec.Struct, kw_only=True, rename="camel"):
    total_tokens: int


_count_decoder: Final = msgspec.json.Decoder(TokenCount)


def answer_to_messages(body: bytes, sent: Sent, domain: str) -> tuple[bytes, Tokens]:
    """Translate an answer, and give its tokens. Raises `UnreadableAnswer`, also for a blocked or empty answer."""
    try:
        answer = _decode(body)
    except (ValueError, RecursionError) as fault:
        raise UnreadableAnswer(f"the upstream's answer is not one of Gemini's API: {fault}") from None
    if answer.error and (failed := read_fault(body)) is not None:
        raise UnreadableAnswer(f"the upstream answered with an error: {failed.message}", status=failed.status)
    candidate = answer.candidates[0] if answer.candidates else None
    if candidate is None:
        feedback = answer.prompt_feedback
        if feedback is None or not feedback.block_reason:
            raise UnreadableAnswer("the upstream's answer has no candidate")
        blocked = prompt_fault(feedback.block_reason, feedback.block_reason_message)
        raise UnreadableAnswer(blocked.message, status=blocked.status)
    known = f"msg_{answer.response_id or ''}"
    blocks = _blocks((candidate.content and candidate.content.parts) or [], known, sent, domain)
    has_calls = any(block["type"] == "tool_use" for block in blocks)
    finish = candidate.finish_reason or ""
    reason = stop_reason(finish, has_calls=has_calls)
    if reason is None or (not blocks and reason != "max_tokens"):
        broken = end_fault(finish, candidate.finish_message)
        raise UnreadableAnswer(broken.message, status=broken.status)
    counted = tokens(answer.usage_metadata)
    return encode(message_document(known, answer.model_version or sent.model, blocks, reason, counted)), counted


def called(call: AnswerCall) -> tuple[str, str]:
    """Give the name and the arguments of a call. Raises `UnreadableAnswer`."""
    if not call.name:
        raise UnreadableAnswer("the upstream's answer calls a tool without its name")
    try:
        arguments = str(call.args, "utf-8")
    except UnicodeDecodeError:
        arguments = ""
    if call.partial_args is not None or not is_object(arguments):
        raise UnreadableAnswer(f"the arguments of the model's call of {call.name[:80]!r} are not a JSON object")
    return call.name, arguments


def count_to_messages(body: bytes) -> bytes:
    """Translate a count of tokens. Raises `UnreadableAnswer`."""
    try:
        found = _count_decoder.decode(body)
    except (ValueError, RecursionError):
        raise UnreadableAnswer("the upstream's answer is not a count of tokens") from None
    return encode({"input_tokens": found.total_tokens})


def _blocks(parts: list[AnswerPart], known: str, sent: Sent, domain: str) -> list[dict[str, Any]]:
    """Give the blocks that `GeminiStreamToMessages` would write."""
    blocks: list[dict[str, Any]] = []
    thought = seal(domain)
    ids = AnswerIds()
    for part in parts:
        if part.function_call is not None:
            if part.thought_signature:
                _thinking(blocks, thought)["signature"] = seal(domain, part.thought_signature)
            given = ids.give(known, client_id(part.function_call.id))
            blocks.append(_call(part.function_call, given, sent))
        elif part.text and part.thought:
            _thinking(blocks, thought)["thinking"] += part.text
        elif part.text and blocks and blocks[-1]["type"] == "text":
            blocks[-1]["text"] += part.text
        elif part.text:
            blocks.append({"type": "text", "text": part.text})
    return blocks


def _thinking(blocks: list[dict[str, Any]], thought: str) -> dict[str, Any]:
    """Give the last block if it is a thinking block; otherwise add one."""
    if not blocks or blocks[-1]["type"] != "thinking":
        blocks.append({"type": "thinking", "thinking": "", "signature": thought})
    return blocks[-1]


def _call(call: AnswerCall, known: str, sent: Sent) -> dict[str, Any]:
    name, arguments = called(call)
    given = msgspec.Raw(arguments.encode())
    return {"type": "tool_use", "id": known, "name": sent.names.get(name, name), "input": given}
