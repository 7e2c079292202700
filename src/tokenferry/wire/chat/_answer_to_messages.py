"""A whole Chat answer as one of the Messages API."""

from typing import Any, Final

import msgspec

from tokenferry.errors import UnreadableAnswer
from tokenferry.wire._codec import Sent, Tokens
from tokenferry.wire._envelope import seal
from tokenferry.wire._faults import read_fault
from tokenferry.wire._ids import made_up_id
from tokenferry.wire._json import encode, is_object
from tokenferry.wire._think_tag import ThinkTag
from tokenferry.wire.chat._meaning import content, reasoning, stop_reason, tokens
from tokenferry.wire.chat._models import CalledTool, ChatAnswer, ChatDelta
from tokenferry.wire.messages._usage import usage_object

_decoder: Final = msgspec.json.Decoder(ChatAnswer)


def answer_to_messages(body: bytes, sent: Sent, domain: str, *, think_tag: bool) -> tuple[bytes, Tokens]:
    """Raises `UnreadableAnswer` for an error with status 200, and for calls that are no JSON."""
    try:
        answer = _decoder.decode(body)
    except (ValueError, RecursionError) as fault:
        raise UnreadableAnswer(f"the upstream's answer is no Chat completion: {fault}") from None
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
    is_cut = choice.finish_reason == "length"
    blocks += [_call(call, made_up_id(known, place), sent, is_cut=is_cut) for place, call in enumerate(calls)]
    counted = Tokens() if answer.usage is None else tokens(answer.usage)
    message_document = {
        "id": known,
        "type": "message",
        "role": "assistant",
        "model": answer.model or sent.model,
        "content": blocks,
        "stop_reason": stop_reason(choice.finish_reason, has_calls=bool(calls), is_refused=bool(said.refusal)),
        "stop_sequence": None,
        "usage": usage_object(counted),
    }
    return encode(message_document), counted


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


def _call(call: CalledTool, made_up: str, sent: Sent, *, is_cut: bool) -> dict[str, Any]:
    function = call.function
    if function is None or not function.name:
        raise UnreadableAnswer("the upstream's answer calls a tool without its name")
    arguments = function.arguments or "{}"
    if not is_object(arguments):
        if not is_cut:
            raise UnreadableAnswer(f"the arguments of the model's call of {function.name[:80]!r} are no JSON object")
        arguments = "{}"
    name = sent.names.get(function.name, function.name)
    return {"type": "tool_use", "id": call.id or made_up, "name": name, "input": msgspec.Raw(arguments.encode())}
