"""OpenAI's Responses."""

import json
from collections.abc import Iterator
from typing import Any

import msgspec

from tokenferry.sandbox import _content, _sse
from tokenferry.sandbox._chat import admit, caller_of
from tokenferry.sandbox._http import STREAM_HEADERS, Answer, Event, Request, json_answer
from tokenferry.sandbox._mint import fixed
from tokenferry.sandbox._responses_request import (
    FunctionCall,
    FunctionCallOutput,
    Message,
    NamedTool,
    ReasoningItem,
    ResponsesRequest,
    check,
)
from tokenferry.sandbox._settings import AnswerSettings
from tokenferry.sandbox._state import State


def responses(state: State, request: Request) -> Answer:
    """`POST /v1/responses`, with an API key as a Bearer token. Models begin with `gpt` or `o`. Nothing is stored."""
    caller = caller_of(state, request)
    name = caller.account.name
    mark = f"sandbox-encrypted-{fixed(name, 24)}"
    asked = check(request.body, mark)
    headers = admit(state, caller, asked.model)
    output, is_cut = _output(asked, state.settings[name].answer, name, mark)
    response = {
        "id": state.mint.identifier("resp"),
        "object": "response",
        "created_at": int(state.clock.now()),
        "status": "incomplete" if is_cut else "completed",
        "error": None,
        "incomplete_details": {"reason": "max_output_tokens"} if is_cut else None,
        "instructions": asked.instructions,
        "max_output_tokens": asked.max_output_tokens,
        "model": asked.model,
        "output": output,
        "parallel_tool_calls": asked.parallel_tool_calls is not False,
        "previous_response_id": None,
        "reasoning": msgspec.to_builtins(asked.reasoning) or {"effort": None, "summary": None},
        "store": False,
        "temperature": 1.0 if asked.temperature is None else asked.temperature,
        "text": {"format": {"type": "text"}},
        "tool_choice": msgspec.to_builtins(asked.tool_choice) or "auto",
        "tools": [],
        "top_p": 1.0 if asked.top_p is None else asked.top_p,
        "truncation": "disabled",
        "usage": _usage(len(request.body) // 4 + 1, output),
        "user": None,
        "metadata": {},
    }
    if asked.stream:
        return Answer(200, [*STREAM_HEADERS, *headers], events=events(response))
    return json_answer(response, headers=headers)


def _usage(read: int, output: list[dict[str, Any]]) -> dict[str, Any]:
    thought = sum(len(_sse.pieces(item["summary"][0]["text"])) for item in output if item["type"] == "reasoning")
    said = sum(len(_sse.pieces(item["content"][0]["text"])) for item in output if item["type"] == "message")
    written = thought + said + 10 * sum(item["type"] == "function_call" for item in output)
    return {
        "input_tokens": read,
        "input_tokens_details": {"cached_tokens": 0},
        "output_tokens": written,
        "output_tokens_details": {"reasoning_tokens": thought},
        "total_tokens": read + written,
    }


def _output(
    asked: ResponsesRequest, knobs: AnswerSettings, account: str, mark: str
) -> tuple[list[dict[str, Any]], bool]:
    """The items of the answer, and whether its text was cut."""
    messages = list(_messages(asked))
    words = _content.words(messages, knobs)
    choice = asked.tool_choice
    made = _content.calls(
        {tool.name: msgspec.json.decode(tool.parameters) for tool in asked.tools or ()},
        knobs,
        named=choice.name if isinstance(choice, NamedTool) else None,
        forced=choice == "required" or (knobs.tool and choice != "none"),
        has_results=bool(_content.results(messages)),
    )
    output: list[dict[str, Any]] = []
    effort = asked.reasoning.effort if asked.reasoning else None
    if knobs.thinking and effort != "none":
        thought = {"type": "summary_text", "text": f"The user of {account} said something; I repeat it. ⛴"}
        encrypted = {"encrypted_content": mark} if asked.include else {}
        output.append({"id": f"rs_{fixed(account, 24)}", "type": "reasoning", "summary": [thought], **encrypted})
    room = asked.max_output_tokens or 10_000
    text = {"type": "output_text", "text": "".join(words[:room]), "annotations": [], "logprobs": []}
    said = {"id": f"msg_{fixed(account, 24)}", "type": "message", "role": "assistant", "content": [text]}
    output.append({**said, "status": "completed"})
    for number, (name, given) in enumerate(made[:1] if asked.parallel_tool_calls is False else made):
        key = fixed(f"{name}{number}", 24)
        call = {"id": f"fc_{key}", "type": "function_call", "call_id": f"call_{key}", "name": name}
        arguments = json.dumps(given, ensure_ascii=False)
        output.append({**call, "arguments": arguments, "status": "completed"})
    return output, len(words) > room and not made


def _messages(asked: ResponsesRequest) -> Iterator[dict[str, Any]]:
    """Convert the conversation to the form of the other dialects."""
    if isinstance(asked.input, str):
        yield {"role": "user", "content": asked.input}
        return
    for item in asked.input:
        match item:
            case Message():
                yield {"role": item.role, "content": _texts(item.content)}
            case FunctionCallOutput():
                yield {"role": "tool", "content": _texts(item.output)}
            case FunctionCall() | ReasoningItem():
                yield {"role": "assistant", "content": ""}


def _texts(content: Any) -> Any:
    if isinstance(content, str):
        return content
    return [{"type": "text", "text": part.text} for part in content if hasattr(part, "text")]


def events(response: dict[str, Any]) -> list[Event]:
    """Convert a whole response to the stream that the API would send."""
    begun = response | {"status": "in_progress", "output": [], "usage": None, "incomplete_details": None}
    shown: list[tuple[str, dict[str, Any]]] = [("response.created", {"response": begun})]
    shown.append(("response.in_progress", {"response": begun}))
    for index, item in enumerate(response["output"]):
        at = {"output_index": index, "item_id": item["id"]}
        shown.append(("response.output_item.added", {"output_index": index, "item": _empty(item)}))
        shown += [(f"response.{name}", {**at, **data}) for name, data in _response(item)]
        shown.append(("response.output_item.done", {"output_index": index, "item": item}))
    shown.append((f"response.{response['status']}", {"response": response}))
    return [_event(name, number, data) for number, (name, data) in enumerate(shown)]


def _event(name: str, number: int, data: dict[str, Any]) -> Event:
    return Event(name, {"type": name, "sequence_number": number, **data})


def _empty(item: dict[str, Any]) -> dict[str, Any]:
    empty: dict[str, dict[str, Any]] = {
        "reasoning": {"summary": []},
        "message": {"content": [], "status": "in_progress"},
        "function_call": {"arguments": "", "status": "in_progress"},
    }
    return item | empty[item["type"]]


def _response(item: dict[str, Any]) -> Iterator[tuple[str, dict[str, Any]]]:
    match item["type"]:
        case "reasoning":
            (part,) = item["summary"]
            at = {"summary_index": 0}
            yield "reasoning_summary_part.added", {**at, "part": part | {"text": ""}}
            for piece in _sse.pieces(part["text"]):
                yield "reasoning_summary_text.delta", {**at, "delta": piece}
            yield "reasoning_summary_text.done", {**at, "text": part["text"]}
            yield "reasoning_summary_part.done", {**at, "part": part}
        case "message":
            (part,) = item["content"]
            at = {"content_index": 0}
            yield "content_part.added", {**at, "part": part | {"text": ""}}
            for piece in _sse.pieces(part["text"]):
                yield "output_text.delta", {**at, "delta": piece, "logprobs": []}
            yield "output_text.done", {**at, "text": part["text"], "logprobs": []}
            yield "content_part.done", {**at, "part": part}
        case _:
            text = item["arguments"]
            for start in range(0, len(text), 7):
                yield "function_call_arguments.delta", {"delta": text[start : start + 7]}
            yield "function_call_arguments.done", {"arguments": text, "name": item["name"]}


def with_error(events: list[Event], given: dict[str, Any]) -> list[Event]:
    """Cut the stream after the given number of deltas, and end it with a failure."""
    wanted, shown, seen = given.get("deltas", 0), list[Event](), 0
    for event in events[:-1]:
        is_delta = event.name.endswith(".delta")
        if is_delta and seen == wanted:
            break
        shown.append(event)
        seen += is_delta
    error = {"code": given.get("type", "server_error"), "message": given.get("message", "Overloaded")}
    begun = events[0].data
    assert isinstance(begun, dict)
    failed = begun["response"] | {"status": "failed", "error": error}
    return [*shown, _event("response.failed", len(shown), {"response": failed})]
