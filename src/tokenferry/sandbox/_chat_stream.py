"""Chat Completions as a stream, also with an error and with the deviations of other vendors."""

import json
from collections.abc import Iterator
from dataclasses import replace
from typing import Any

from tokenferry.sandbox import _sse
from tokenferry.sandbox._http import Event, chat_error

_DONE = Event("", "[DONE]")
_ADDS = ("content", "tool_calls", "reasoning_content")
_OVERLOADED = "overloaded_error"


def events(answer: dict[str, Any], *, with_usage: bool) -> list[Event]:
    """Convert a whole answer to the stream that the API would send."""
    return [*_events(answer, with_usage=with_usage), _DONE]


def _events(answer: dict[str, Any], *, with_usage: bool) -> Iterator[Event]:
    choice = answer["choices"][0]
    message = choice["message"]

    def chunk(delta: dict[str, Any], finish: str | None = None) -> Event:
        choices = [{"index": 0, "delta": delta, "logprobs": None, "finish_reason": finish}]
        return _chunk(answer, choices, **({"usage": None} if with_usage else {}))

    yield chunk({"role": "assistant", "content": "", "refusal": None})
    for piece in _sse.pieces(message["reasoning_content"]) if "reasoning_content" in message else ():
        yield chunk({"reasoning_content": piece})
    for piece in _sse.pieces(message["content"]):
        yield chunk({"content": piece})
    calls = message.get("tool_calls", ())
    for index, call in enumerate(calls):
        yield chunk({"tool_calls": [{"index": index, **call, "function": {**call["function"], "arguments": ""}}]})
        text = call["function"]["arguments"]
        for start in range(0, len(text), 7):
            yield chunk({"tool_calls": [{"index": index, "function": {"arguments": text[start : start + 7]}}]})
    yield chunk({}, choice["finish_reason"])
    if with_usage:
        yield _chunk(answer, [], usage=answer["usage"])


def _chunk(answer: dict[str, Any], choices: list[dict[str, Any]], **more: Any) -> Event:
    head = {name: answer[name] for name in ("id", "created", "model")}
    return Event("", {"object": "chat.completion.chunk", **head, "choices": choices, **more})


def with_error(events: list[Event], given: dict[str, Any]) -> list[Event]:
    """Cut the stream after the given number of deltas, and end it with an error."""
    wanted, shown, seen = given.get("deltas", 0), [], 0
    for event in events:
        delta = _delta(event)
        if (seen == wanted and delta) or event is _DONE:
            break
        shown.append(event)
        seen += bool(delta)
    status = 503 if given.get("type", _OVERLOADED) == _OVERLOADED else 500
    return [*shown, Event("", chat_error(status, given.get("message", "Overloaded"), given.get("type")))]


def _delta(event: Event) -> bool:
    """Whether an event adds something to the answer."""
    choices = event.data["choices"] if isinstance(event.data, dict) else []
    return any(choice["delta"].get(name) for choice in choices for name in _ADDS)


def with_quirks(events: list[Event], given: dict[str, Any]) -> list[Event]:
    """Change the stream to the way other vendors of this dialect write it."""
    where, shown = given.get("usage", "end"), []
    usage = next((one.data["usage"] for one in events if isinstance(one.data, dict) and one.data.get("usage")), None)
    for event in events:
        if isinstance(event.data, str):
            shown += [event] if given.get("done", True) else []
        elif event.data["choices"] or where == "end":
            data = json.loads(json.dumps(event.data))
            if data["choices"]:
                _change(data["choices"][0], given)
                if where == "each":
                    data["usage"] = usage
            shown.append(replace(event, data=data, comment="keep-alive" if given.get("comments") else ""))
    return shown


def _change(choice: dict[str, Any], given: dict[str, Any]) -> None:
    if choice["finish_reason"] and "finish" in given:
        choice["finish_reason"] = given["finish"]
    for call in choice["delta"].get("tool_calls", ()):
        if given.get("same_index"):
            call["index"] = 0
        if not given.get("ids", True):
            call.pop("id", None)
