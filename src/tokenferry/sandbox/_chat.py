"""OpenAI's Chat Completions."""

import json
from typing import Any

from tokenferry.sandbox import _content, _sse
from tokenferry.sandbox._chat_request import check
from tokenferry.sandbox._chat_stream import events
from tokenferry.sandbox._http import STREAM_HEADERS, Answer, ApiError, Request, json_answer
from tokenferry.sandbox._messages import Caller, authenticate
from tokenferry.sandbox._mint import fixed
from tokenferry.sandbox._settings import AnswerSettings
from tokenferry.sandbox._state import State


def completions(state: State, request: Request) -> Answer:
    """`POST /v1/chat/completions`, with an API key as a Bearer token. Models begin with `gpt` or `o`."""
    caller = caller_of(state, request)
    document = check(request.body)
    headers = admit(state, caller, document["model"])
    settings = state.settings[caller.account.name]
    thought = f"The user of {caller.account.name} said something; I repeat it. ⛴"
    if any(message.get("reasoning_content") not in {None, thought} for message in document["messages"]):
        raise ApiError(400, "'reasoning_content' must be what this model answered", headers=headers)
    answer = _completion(document, settings.answer, thought)
    answer |= {
        "id": state.mint.identifier("chatcmpl"),
        "created": int(state.clock.now()),
        "model": document["model"],
        "usage": _usage(len(request.body) // 4 + 1, answer),
    }
    if document.get("stream") is not True:
        return json_answer(answer | {"object": "chat.completion"}, headers=headers)
    options = document.get("stream_options") or {}
    written = events(answer, with_usage=bool(options.get("include_usage")))
    return Answer(200, [*STREAM_HEADERS, *headers], events=written)


def caller_of(state: State, request: Request) -> Caller:
    """Find the caller by an API key as a Bearer token. Raises `ApiError` (401)."""
    caller = authenticate(state, request) if request.bearer else None
    if caller is None or request.header("x-api-key"):
        raise ApiError(401, "You didn't provide an API key. Give it in an Authorization header: Bearer YOUR_KEY")
    return caller


def admit(state: State, caller: Caller, model: str) -> list[tuple[str, str]]:
    """The headers of an answer. Raises `ApiError` (429) for an account whose limit is used up."""
    limits, now = state.settings[caller.account.name].limits, state.clock.now()
    headers = [("openai-organization", f"org-{caller.account.name}"), *limits.chat_headers(now)]
    refusal = limits.refusal(now, model, subscription=False)
    if refusal is not None:
        raise ApiError(429, refusal.message, headers=[*headers, ("retry-after", str(refusal.retry_after))])
    return headers


def _usage(prompt: int, answer: dict[str, Any]) -> dict[str, Any]:
    message = answer["choices"][0]["message"]
    output = len(_sse.pieces(message["content"] or "")) + 10 * len(message.get("tool_calls", ()))
    return {
        "prompt_tokens": prompt,
        "completion_tokens": output,
        "total_tokens": prompt + output,
        "prompt_tokens_details": {"cached_tokens": 0},
    }


def _completion(document: dict[str, Any], knobs: AnswerSettings, thought: str) -> dict[str, Any]:
    room = document.get("max_completion_tokens") or document.get("max_tokens") or 10_000
    words = _content.words(document["messages"], knobs)
    choice = document.get("tool_choice")
    made = _content.calls(
        {tool["function"]["name"]: tool["function"].get("parameters") for tool in document.get("tools") or ()},
        knobs,
        named=choice["function"]["name"] if isinstance(choice, dict) else None,
        forced=choice == "required" or (knobs.tool and choice != "none"),
        has_results=bool(_content.results(document["messages"])),
    )
    if document.get("parallel_tool_calls") is False:
        made = made[:1]
    message: dict[str, Any] = {"role": "assistant", "content": "".join(words[:room]), "refusal": None}
    if knobs.thinking and document.get("reasoning_effort") != "none":
        message["reasoning_content"] = thought
    if made:
        message["tool_calls"] = [
            {
                "id": f"call_{fixed(f'{name}{number}', 24)}",
                "type": "function",
                "function": {"name": name, "arguments": json.dumps(given, ensure_ascii=False)},
            }
            for number, (name, given) in enumerate(made)
        ]
    finish = "tool_calls" if made else "length" if len(words) > room else "stop"
    return {"choices": [{"index": 0, "message": message, "logprobs": None, "finish_reason": finish}]}
