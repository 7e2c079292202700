"""The Messages API, token counting and the list of models."""

from dataclasses import dataclass
from typing import Any

from tokenferry.anthropic_beta import OAUTH_BETA
from tokenferry.sandbox import _content, _sse
from tokenferry.sandbox._accounts import ACCOUNTS, Account
from tokenferry.sandbox._http import STREAM_HEADERS, Answer, ApiError, Request, json_answer
from tokenferry.sandbox._mint import fixed
from tokenferry.sandbox._settings import AnswerSettings
from tokenferry.sandbox._state import State

_MODELS = (
    ("claude-opus-4-5-20251101", "Claude Opus 4.5", "2025-11-01T00:00:00Z"),
    ("claude-haiku-4-5-20251001", "Claude Haiku 4.5", "2025-10-01T00:00:00Z"),
    ("claude-sonnet-4-5-20250929", "Claude Sonnet 4.5", "2025-09-29T00:00:00Z"),
    ("claude-opus-4-1-20250805", "Claude Opus 4.1", "2025-08-05T00:00:00Z"),
    ("claude-sonnet-4-20250514", "Claude Sonnet 4", "2025-05-14T00:00:00Z"),
)
_MAX_LIMIT = 1000
_SIGNATURE = fixed("sign", 88)
"""The signature of its thinking; it refuses any other."""


@dataclass(frozen=True)
class Caller:
    """The account of a request's credential, and the scopes of a token; None for an API key."""

    account: Account
    scopes: tuple[str, ...] | None

    @property
    def subscription(self) -> bool:
        return self.scopes is not None and self.account.subscription is not None


def authenticate(state: State, request: Request, scope: str | None = None, *, beta: bool = True) -> Caller:
    """Find the account behind `x-api-key` or a Bearer token, as strictly as the vendor does."""
    key, bearer = request.header("x-api-key"), request.bearer
    if not key and not bearer:
        raise ApiError(401, "x-api-key header is required")
    if key and bearer and key != bearer:
        raise ApiError(401, "two different credentials were sent, in x-api-key and in authorization")
    ledger, secret = state.ledger, bearer or key
    if secret in ledger.keys and secret not in ledger.dead_keys:
        return Caller(ACCOUNTS[ledger.keys[secret]], None)
    access = ledger.access.get(secret) if bearer else None
    if access is None:
        raise ApiError(401, "Invalid bearer token" if bearer else "invalid x-api-key")
    if (
        beta
        and not access.is_exchanged
        and OAUTH_BETA not in {value.strip() for value in request.header("anthropic-beta").split(",")}
    ):
        raise ApiError(401, "OAuth authentication is currently not supported.")
    if access.dead:
        raise ApiError(401, "OAuth token has been revoked. Please obtain a new token.")
    if access.expires_at <= state.clock.now():
        raise ApiError(401, "OAuth token has expired. Please obtain a new token or refresh your existing token.")
    if scope is not None and scope not in access.scopes:
        raise ApiError(403, f"OAuth token does not meet scope requirement {scope}")
    return Caller(ACCOUNTS[access.family.account], access.scopes)


def _caller(state: State, request: Request) -> Caller:
    caller = authenticate(state, request, "user:inference")
    if not request.header("anthropic-version"):
        raise ApiError(400, "anthropic-version: header is required", headers=_organization(caller))
    return caller


def _organization(caller: Caller) -> list[tuple[str, str]]:
    return [("anthropic-organization-id", caller.account.organization_uuid)]


def _document(request: Request, caller: Caller, *fields: str) -> dict[str, Any]:
    document = request.json
    headers = _organization(caller)
    if not isinstance(document, dict):
        raise ApiError(400, "The request body is not valid JSON: expected an object", headers=headers)
    for name in fields:
        if name not in document:
            raise ApiError(400, f"{name}: Field required", headers=headers)
    model, messages = document["model"], document["messages"]
    if not isinstance(model, str) or not model:
        raise ApiError(400, "model: Input should be a valid string", headers=headers)
    if not isinstance(messages, list) or not messages:
        raise ApiError(400, "messages: at least one message is required", headers=headers)
    if (fault := _fault_of_turns(messages) or _fault_of_thinking(document)) is not None:
        raise ApiError(400, fault, headers=headers)
    if not model.startswith("claude"):
        raise ApiError(404, f"model: {model}", headers=headers)
    return document


def _fault_of_turns(messages: list[Any]) -> str | None:
    for index, message in enumerate(messages):
        if not isinstance(message, dict) or not isinstance(message.get("content"), str | list):
            return f"messages.{index}.content: Field required"
        if message.get("role") not in {"user", "assistant", "system"}:
            return f"messages.{index}.role: Input should be 'user' or 'assistant'"
    return None


def _fault_of_thinking(document: dict[str, Any]) -> str | None:
    """Refuse what the vendor refuses: thinking that another model signed, and missing thinking."""
    turns = [[block for block in turn["content"] if isinstance(block, dict)] for turn in document["messages"]]
    for index, blocks in enumerate(turns):
        for place, block in enumerate(blocks):
            if block.get("type") == "thinking" and block.get("signature") != _SIGNATURE:
                return f"messages.{index}.content.{place}: Invalid `signature` in `thinking` block"
    thinking = document.get("thinking")
    kinds = [[block.get("type") for block in blocks] for blocks in turns[-2:]]
    if isinstance(thinking, dict) and thinking.get("type") == "enabled" and "tool_result" in kinds[-1]:
        first = kinds[0][0] if kinds[0] else None
        if first not in {"thinking", "redacted_thinking"}:
            return (
                f"messages.{len(turns) - 2}.content.0.type: Expected `thinking` or `redacted_thinking`, but found "
                f"`{first}`. When `thinking` is enabled, a final `assistant` message must start with a thinking block"
            )
    management = document.get("context_management")
    edits = management.get("edits") or () if isinstance(management, dict) else ()
    if any(edit.get("type") == "clear_thinking_20251015" for edit in edits) and not _thinks(document):
        return "`clear_thinking_20251015` strategy requires `thinking` to be enabled or adaptive"
    return None


def limit_headers(state: State, caller: Caller, model: str) -> list[tuple[str, str]]:
    limits, now = state.settings[caller.account.name].limits, state.clock.now()
    return limits.unified_headers(now, model) if caller.subscription else limits.bucket_headers(now)


def messages(state: State, request: Request) -> Answer:
    """`POST /v1/messages`."""
    caller = _caller(state, request)
    headers = _organization(caller)
    document = _document(request, caller, "model", "max_tokens", "messages")
    room = document["max_tokens"]
    if type(room) is not int or room < 1:
        raise ApiError(400, "max_tokens: must be greater than or equal to 1", headers=headers)
    headers += limit_headers(state, caller, document["model"])
    settings = state.settings[caller.account.name]
    refusal = settings.limits.refusal(state.clock.now(), document["model"], subscription=caller.subscription)
    if refusal is not None:
        raise ApiError(429, refusal.message, headers=[*headers, ("retry-after", str(refusal.retry_after))])
    content, stop_reason, output = _blocks(document, settings.answer, room)
    message = {
        "id": state.mint.identifier("msg_sandbox"),
        "type": "message",
        "role": "assistant",
        "model": document["model"],
        "content": content,
        "stop_reason": stop_reason,
        "stop_sequence": None,
        "usage": {
            "input_tokens": _count(request),
            "cache_creation_input_tokens": 0,
            "cache_read_input_tokens": 0,
            "output_tokens": output,
            "service_tier": "standard",
        },
    }
    if document.get("stream") is True:
        return Answer(200, [*STREAM_HEADERS, *headers], events=_sse.events(message))
    return json_answer(message, headers=headers)


def _blocks(document: dict[str, Any], knobs: AnswerSettings, room: int) -> tuple[list[dict[str, Any]], str, int]:
    words = _content.words(document["messages"], knobs)
    text: dict[str, Any] = {"type": "text", "text": "".join(words[:room])}
    content = [text]
    if knobs.citations:
        text["citations"] = [_CITATION]
    if knobs.thinking and _thinks(document):
        thought = {"type": "thinking", "thinking": "The user said something; I repeat it. ⛴", "signature": _SIGNATURE}
        content.insert(0, thought)
    calls = _calls(document, knobs)
    content += calls
    stop_reason = "tool_use" if calls else "max_tokens" if len(words) > room else "end_turn"
    return content, stop_reason, min(len(words), room) + 10 * (len(content) - 1)


_CITATION = {
    "type": "char_location",
    "cited_text": "Grüße von der Fähre",
    "document_index": 0,
    "document_title": "Sandbox",
    "start_char_index": 0,
    "end_char_index": 19,
    "file_id": None,
}


def _thinks(document: dict[str, Any]) -> bool:
    thinking = document.get("thinking")
    return isinstance(thinking, dict) and thinking.get("type") in {"enabled", "adaptive"}


def _calls(document: dict[str, Any], knobs: AnswerSettings) -> list[dict[str, Any]]:
    offered = document.get("tools")
    tools = [t for t in offered if isinstance(t, dict) and "name" in t] if isinstance(offered, list) else []
    choice = document.get("tool_choice")
    choice = choice if isinstance(choice, dict) else {}
    made = _content.calls(
        {str(tool["name"]): tool.get("input_schema") for tool in tools},
        knobs,
        named=str(choice.get("name")) if choice.get("type") == "tool" else None,
        forced=knobs.tool or choice.get("type") == "any",
        has_results=bool(_content.results(document["messages"])),
    )
    return [
        {"type": "tool_use", "id": f"toolu_sandbox{fixed(name + '+' * number, 18)}", "name": name, "input": given}
        for number, (name, given) in enumerate(made)
    ]


def _count(request: Request) -> int:
    return len(request.body) // 4 + 1


def count_tokens(state: State, request: Request) -> Answer:
    """`POST /v1/messages/count_tokens`."""
    caller = _caller(state, request)
    _document(request, caller, "model", "messages")
    return json_answer({"input_tokens": _count(request)}, headers=_organization(caller))


def models(state: State, request: Request) -> Answer:
    """`GET /v1/models`, with `limit`, `after_id` and `before_id`."""
    caller = _caller(state, request)
    given = request.parameters
    limit = given.get("limit", "20")
    if not limit.isdecimal() or not 1 <= int(limit) <= _MAX_LIMIT:
        raise ApiError(400, f"limit: must be from 1 to {_MAX_LIMIT}", headers=_organization(caller))
    listed = [_model(row) for row in _MODELS]
    ids = [row[0] for row in _MODELS]
    before = given.get("before_id")
    start = ids.index(given["after_id"]) + 1 if given.get("after_id") in ids else 0
    end = ids.index(before) if before in ids else len(ids)
    if before in ids:
        start = max(start, end - int(limit))
    shown = listed[start:end][: int(limit)]
    document = {
        "data": shown,
        "has_more": start > 0 if before in ids else start + len(shown) < end,
        "first_id": shown[0]["id"] if shown else None,
        "last_id": shown[-1]["id"] if shown else None,
    }
    return json_answer(document, headers=_organization(caller))


def model(state: State, request: Request) -> Answer:
    """`GET /v1/models/{id}`."""
    caller = _caller(state, request)
    wanted = request.path.removeprefix("/v1/models/")
    for row in _MODELS:
        if wanted in {row[0], row[0].rpartition("-")[0]}:
            return json_answer(_model(row), headers=_organization(caller))
    raise ApiError(404, f"model: {wanted}", headers=_organization(caller))


def _model(row: tuple[str, str, str]) -> dict[str, str]:
    return {"type": "model", "id": row[0], "display_name": row[1], "created_at": row[2]}
