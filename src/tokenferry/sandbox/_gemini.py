"""Google's `generateContent`, as in the Gemini API and in Vertex AI."""

import base64
import json
from typing import Any

from tokenferry.sandbox import _content, _sse
from tokenferry.sandbox._accounts import ACCOUNTS
from tokenferry.sandbox._gemini_request import GeminiRequest, check, check_count, is_third
from tokenferry.sandbox._http import STREAM_HEADERS, Answer, ApiError, Event, Request, gemini_error, json_answer
from tokenferry.sandbox._messages import Caller
from tokenferry.sandbox._mint import fixed
from tokenferry.sandbox._settings import AnswerSettings
from tokenferry.sandbox._state import State

_MODELS = ("gemini-3-pro", "gemini-3-flash", "gemini-2.5-pro", "gemini-2.5-flash")
_DETAIL = "type.googleapis.com/google.rpc."


def generate(state: State, request: Request) -> Answer:
    """`POST …/models/{model}:generateContent` and the like. Models begin with `gemini`."""
    asked_of = request.gemini
    assert asked_of is not None
    caller = _caller(state, request)
    account, model = caller.account.name, asked_of.model
    if not model.startswith("gemini"):
        message = f"models/{model} is not found for API version v1beta, or is not supported for {asked_of.method}."
        raise ApiError(404, message)
    _admit(state, caller, model)
    if asked_of.method == "countTokens":
        check_count(request.body)
        return json_answer({"totalTokens": _prompt(request), "promptTokensDetails": []})
    asked = check(request.body, model, lambda name: signed(account, model, name))
    candidate = _candidate(asked, state.settings[account].answer, account, model)
    answer = {
        "candidates": [candidate],
        "usageMetadata": _usage(_prompt(request), candidate),
        "modelVersion": model,
        "responseId": state.mint.identifier("gemini"),
    }
    if asked_of.method == "generateContent":
        return json_answer(answer)
    if request.parameters.get("alt") != "sse":
        raise ApiError(400, "The sandbox streams as events alone: alt=sse")
    return Answer(200, list(STREAM_HEADERS), events=events(answer))


def models(state: State, request: Request) -> Answer:
    """`GET /v1beta/models`."""
    _caller(state, request)
    methods = ["generateContent", "countTokens"]
    listed = [
        {"name": f"models/{name}", "displayName": name.title(), "supportedGenerationMethods": methods}
        for name in _MODELS
    ]
    return json_answer({"models": listed})


def signed(account: str, model: str, name: str) -> str:
    """The signature of a call of this function, or of a text, by an account's model."""
    return base64.b64encode(fixed(f"{account} {model} {name}", 48).encode()).decode()


def _caller(state: State, request: Request) -> Caller:
    """Find the caller by an API key; at Vertex AI it is a Bearer token. Raises `ApiError`."""
    is_vertex = request.gemini is not None and request.gemini.is_vertex
    given = request.bearer if is_vertex else request.header("x-goog-api-key")
    ledger = state.ledger
    if given in ledger.keys and given not in ledger.dead_keys:
        return Caller(ACCOUNTS[ledger.keys[given]], None)
    if is_vertex:
        raise ApiError(401, "Request had invalid authentication credentials. Expected OAuth 2 access token.")
    info = {"@type": f"{_DETAIL}ErrorInfo", "reason": "API_KEY_INVALID", "domain": "googleapis.com"}
    raise ApiError(400, "API key not valid. Please pass a valid API key.", details=[info])


def _admit(state: State, caller: Caller, model: str) -> None:
    """Raises `ApiError` (429) for an account whose limit is used up."""
    refusal = state.settings[caller.account.name].limits.refusal(state.clock.now(), model, subscription=False)
    if refusal is None:
        return
    violation = {
        "quotaMetric": "generativelanguage.googleapis.com/generate_requests",
        "quotaId": "GenerateRequestsPerMinutePerProjectPerModel",
        "quotaDimensions": {"model": model},
    }
    details: list[dict[str, Any]] = [
        {"@type": f"{_DETAIL}QuotaFailure", "violations": [violation]},
        {"@type": f"{_DETAIL}RetryInfo", "retryDelay": f"{refusal.retry_after}s"},
    ]
    raise ApiError(429, "You exceeded your current quota, please check your plan.", details=details)


def _prompt(request: Request) -> int:
    return len(request.body) // 4 + 1


def _usage(prompt: int, candidate: dict[str, Any]) -> dict[str, int]:
    """Counts as the vendor gives them: without zeros."""
    parts = candidate["content"]["parts"]
    thought = sum(len(_sse.pieces(part["text"])) for part in parts if part.get("thought"))
    said = sum(len(_sse.pieces(part["text"])) for part in parts if "text" in part and not part.get("thought"))
    said += 10 * sum("functionCall" in part for part in parts)
    counts = {"promptTokenCount": prompt, "candidatesTokenCount": said, "thoughtsTokenCount": thought}
    return {name: count for name, count in counts.items() if count} | {"totalTokenCount": prompt + said + thought}


def _candidate(asked: GeminiRequest, knobs: AnswerSettings, account: str, model: str) -> dict[str, Any]:
    messages = [_message(content) for content in asked.contents]
    words = _content.words(messages, knobs)
    calling, offered = asked.calling, asked.offered
    names = calling.allowed_function_names
    if names and calling.mode == "ANY":
        offered = {name: schema for name, schema in offered.items() if name in names}
    made = _content.calls(
        offered,
        knobs,
        named=names[0] if names and len(names) == 1 else None,
        forced=calling.mode == "ANY" or (knobs.tool and calling.mode != "NONE"),
        has_results=bool(_content.results(messages)),
    )
    parts: list[dict[str, Any]] = []
    config = asked.generation_config
    if knobs.thinking and config.thinking_config is not None and config.thinking_config.include_thoughts:
        parts.append({"text": f"The user of {account} said something; I repeat it. ⛴", "thought": True})
    room = config.max_output_tokens or 10_000
    said: dict[str, Any] = {"text": "".join(words[:room])}
    third = is_third(model)
    parts.append(said if made or not third else {**said, "thoughtSignature": signed(account, model, "")})
    for number, (name, given) in enumerate(made):
        call = {"name": name, "args": given} | ({"id": fixed(f"{name}{number}", 8)} if third else {})
        is_signed = third and number == 0
        parts.append({"functionCall": call} | ({"thoughtSignature": signed(account, model, name)} if is_signed else {}))
    finish = "MAX_TOKENS" if len(words) > room and not made else "STOP"
    return {"content": {"parts": parts, "role": "model"}, "finishReason": finish, "index": 0}


def _message(content: Any) -> dict[str, Any]:
    """Convert a turn to the form of the other dialects."""
    results = [json.dumps(one.response) if len(one.response) > 1 else _only(one.response) for one in content.responses]
    blocks = [{"type": "tool_result", "content": result} for result in results]
    blocks += [{"type": "text", "text": part.text} for part in content.parts if part.text is not None]
    return {"role": "assistant" if content.role == "model" else "user", "content": blocks}


def _only(response: dict[str, Any]) -> str:
    return str(next(iter(response.values()), ""))


def events(answer: dict[str, Any]) -> list[Event]:
    """Convert a whole answer to the API's stream: pieces of texts, whole calls, and a last part for the rest.

    A text's signature comes with an empty text at its end.
    """
    candidate = answer["candidates"][0]
    head = {name: answer[name] for name in ("modelVersion", "responseId")}
    counts = {"promptTokenCount": answer["usageMetadata"]["promptTokenCount"]}
    shown: list[Event] = []
    rest: dict[str, Any] = {"text": ""}
    for part in candidate["content"]["parts"]:
        if "text" in part and "thoughtSignature" in part:
            rest["thoughtSignature"] = part["thoughtSignature"]
        mark = {"thought": True} if part.get("thought") else {}
        pieces = [{"text": piece, **mark} for piece in _sse.pieces(part["text"])] if "text" in part else [part]
        shown += [_event([piece], usageMetadata=counts, **head) for piece in pieces]
    last = {"finishReason": candidate["finishReason"]}
    return [*shown, _event([rest], last, usageMetadata=answer["usageMetadata"], **head)]


def _event(parts: list[dict[str, Any]], more: dict[str, Any] | None = None, **fields: Any) -> Event:
    candidate = {"content": {"parts": parts, "role": "model"}, "index": 0, **(more or {})}
    return Event("", {"candidates": [candidate], **fields}, newline="\r\n")


def with_error(events: list[Event], given: dict[str, Any]) -> list[Event]:
    """Cut the stream after the given number of parts, and end it with an error."""
    shown = events[: min(given.get("deltas", 0), len(events) - 1)]
    document = gemini_error(503, given.get("message", "The model is overloaded."), given.get("type"))
    return [*shown, Event("", document, newline="\r\n")]


def with_quirks(answer: Answer, given: dict[str, Any]) -> Answer:
    """Break the answer as the vendor sometimes does: blocked, with another finish, without content or an end."""
    if answer.status != 200:  # noqa: PLR2004
        return answer
    if answer.events is None:
        return json_answer(_changed(json.loads(answer.body), given), answer.status)
    documents = [event.data for event in answer.events if isinstance(event.data, dict)]
    sent = documents if given.get("content") else documents[-1:]
    sent = [*sent[:-1], _changed(sent[-1], given)] if given.get("end", True) else sent[:-1]
    return Answer(200, answer.headers, events=[Event("", one, newline="\r\n") for one in sent])


def _changed(document: dict[str, Any], given: dict[str, Any]) -> dict[str, Any]:
    if "block" in given:
        head = {name: value for name, value in document.items() if name != "candidates"}
        return {"promptFeedback": {"blockReason": given["block"]}, **head}
    (candidate,) = document["candidates"]
    content = candidate["content"] if given.get("content") else {}
    changed = {**candidate, "content": content, "finishReason": given.get("finish", candidate["finishReason"])}
    return {**document, "candidates": [changed]}
