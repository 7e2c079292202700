"""Translates a whole Chat completion to an answer of the Messages API."""

from typing import Any, Final

from tokenferry.errors import UnreadableAnswer
from tokenferry.wire._codec import Sent, Tokens
from tokenferry.wire._envelope import seal
from tokenferry.wire._faults import read_fault
from tokenferry.wire._ids import AnswerIds
from tokenferry.wire._json import answer_decoder, encode
from tokenferry.wire._think_tag import ThinkTag
from tokenferry.wire.chat._meaning import CUT_SHORT, content, reasoning, stop_reason, tokens
from tokenferry.wire.chat._models import CalledFunction, CalledTool, ChatAnswer, ChatDelta
from tokenferry.wire.messages._answer import message_document, tool_use_block

_decode: Final = answer_decoder(ChatAnswer)


def answer_to_messages(body: bytes, sent: Sent, domain: str, *, think_tag: bool) -> tuple[bytes, Tokens]:
    """Translate an answer, and give its tokens. Raises `UnreadableAnswer`, also for an error with status 200."""
    try:
        answer = _decode(body)
    except (ValueError, RecursionError) as fault:
        raise UnreadableAnswer(f"the upstream's answer is not a Chat completion: {fault}") from None
    if (answer.error or answer.base_resp) and (failed := read_fault(body)) is not None:
        raise UnreadableAnswer(f"the upstream answered with an error: {failed.message}", status=failed.status)
    choice = answer.choices[0] if answer.choices else None
    if choice is None or choice.message is None:
        raise UnreadableAnswer("the upstream's answer has no message")
    if choice.finish_reason == "error":
        raise UnreadableAnswer("the upstream's answer ended with an error")
    said = choice.message
    blocks = _texts(said, domain, think_tag=think_tag)
    known = f"msg_{answer.id or ''}"
    calls = list(said.tool_calls or ())
    if said.function_call is not None:
        calls.append(CalledTool(function=said.function_call))
    is_cut = choice.finish_reason in CUT_SHORT
    ids = AnswerIds()
    for call in calls:
        function = call.function or CalledFunction()
        blocks.append(tool_use_block(ids.give(known, call.id), function.name, function.arguments, sent, is_cut=is_cut))
    counted = tokens(answer.usage)
    reason = stop_reason(choice.finish_reason, has_calls=bool(calls), is_refused=bool(said.refusal))
    return encode(message_document(known, answer.model or sent.model, blocks, reason, counted)), counted


def _texts(said: ChatDelta, domain: str, *, think_tag: bool) -> list[dict[str, Any]]:
    thoughts, text = content(said)
    if think_tag and text:
        tag = ThinkTag()
        parts = [*tag.feed(text), *tag.end()]
        thoughts += "".join(part for is_thought, part in parts if is_thought)
        text = "".join(part for is_thought, part in parts if not is_thought)
    blocks: list[dict[str, Any]] = []
    if thoughts := reasoning(said) or thoughts:
        blocks.append({"type": "thinking", "thinking": thoughts, "signature": seal(domain)})
    if text := text + (said.refusal or ""):
        blocks.append({"type": "text", "text": text})
    return blocks
