"""Reads upstreams' errors in any envelope: the message, and the kind of error."""

from typing import Any, Final, overload

import msgspec
from msgspec import Struct

_LONGEST: Final = 2000
# MiniMax's codes in a `base_resp` with status 200 (platform.minimax.io/docs/api-reference/errorcode).
_MINIMAX: Final = {1001: 504, 1002: 429, 1004: 401, 1008: 402, 1039: 429, 2013: 400}
_GOOGLES_REFUSAL: Final = "API_KEY_INVALID"
_NAMES: Final = ("code", "type", "status", "reason")
_STATUS_OF: Final = {
    name: status
    for status, names in {
        400: ("invalid_request_error", "invalid_prompt", "context_length_exceeded", "INVALID_ARGUMENT"),
        401: ("authentication_error", "invalid_api_key", "UNAUTHENTICATED", _GOOGLES_REFUSAL),
        402: ("billing_error", "insufficient_quota"),
        403: ("permission_error", "permission_denied", "PERMISSION_DENIED"),
        404: ("not_found_error", "not_found", "model_not_found", "NOT_FOUND"),
        413: ("request_too_large",),
        429: ("rate_limit_exceeded", "rate_limit_error", "rate_limit", "RESOURCE_EXHAUSTED"),
        504: ("timeout_error", "timeout", "DEADLINE_EXCEEDED"),
        529: ("overloaded", "overloaded_error", "server_is_overloaded", "slow_down", "UNAVAILABLE"),
    }.items()
    for name in names
}
"""The status that an error's code or type stands for."""
_TOO_LONG: Final = (
    *("context length", "context_length", "context window", "prompt is too long", "maximum context"),
    "exceeds the maximum number of tokens allowed",
    "context_size",  # llama.cpp's type
)
_BAD_REQUEST: Final = 400
_SERVER_ERROR: Final = 500
_OVERLOADED_STATUS: Final = 529
_STATUSES: Final = {str(status): status for status in range(400, 600)}
# Statuses with the meaning of another.
_SAME: Final = {408: 504, 422: 400, 498: 529, 502: 500, 503: 529}
_KNOWN: Final = frozenset((400, 401, 402, 403, 404, 413, 429, 500, 504, 529))


class UpstreamFault(Struct, frozen=True, kw_only=True):
    """An upstream's error. `status` is one of Anthropic's API, which distinguishes the most kinds."""

    status: int
    message: str
    is_too_long: bool = False
    """Whether the conversation is too long for the model."""


UNEXPLAINED: Final = UpstreamFault(status=_SERVER_ERROR, message="the upstream failed")


@overload
def read_fault(body: bytes, status: int) -> UpstreamFault: ...
@overload
def read_fault(body: bytes, status: None = None) -> UpstreamFault | None: ...
def read_fault(body: bytes, status: int | None = None) -> UpstreamFault | None:
    """Give the error in a document or an event's data; None if there is none. `status` is the answer's, if it failed.

    It never raises.
    """
    try:
        document = msgspec.json.decode(body)
    except (ValueError, RecursionError):
        document = None
    reported = _reported(document)
    if reported is None and status is None:
        return None
    reported = reported or {}
    message = _message(reported) or _text(body)
    codes = [str(reported[name]) for name in _NAMES if isinstance(reported.get(name), str | int)]
    codes += _reasons(reported.get("details"))
    meant = next((_STATUS_OF[code] for code in codes if code in _STATUS_OF), _SERVER_ERROR)
    known = status or next((_STATUSES[code] for code in codes if code in _STATUSES), meant)
    if known >= _SERVER_ERROR and meant == _OVERLOADED_STATUS:
        known = meant
    elif _GOOGLES_REFUSAL in codes:
        known = _STATUS_OF[_GOOGLES_REFUSAL]  # Google answers with 400
    known = _SAME.get(known, known)
    if known not in _KNOWN:
        known = _BAD_REQUEST if known < _SERVER_ERROR else _SERVER_ERROR
    words = f"{message} {' '.join(codes)}".lower()
    is_too_long = known in {400, 413} and any(word in words for word in _TOO_LONG)
    return UpstreamFault(status=known, message=message or UNEXPLAINED.message, is_too_long=is_too_long)


def _reasons(details: Any) -> list[str]:
    """Give the reasons that an error of Google's names in its details."""
    known = details if isinstance(details, list) else []
    return [one["reason"] for one in known if isinstance(one, dict) and isinstance(one.get("reason"), str)]


def _reported(document: Any) -> dict[str, Any] | None:
    """Give the object that describes the error."""
    if isinstance(document, list) and document:
        document = document[0]
    if not isinstance(document, dict):
        return None
    error, base = document.get("error"), document.get("base_resp")
    if isinstance(base, dict) and isinstance(base.get("status_code"), int) and base["status_code"]:
        return {"message": base.get("status_msg"), "code": _MINIMAX.get(base["status_code"], _SERVER_ERROR)}
    if isinstance(error, dict) and error:
        return error
    if error:
        return {"message": error if isinstance(error, str) else None}
    is_flat = isinstance(document.get("message"), str) and "code" in document
    if is_flat or document.get("object") == "error" or "detail" in document:
        return document
    return None


def _message(reported: dict[str, Any]) -> str:
    found = reported.get("message") or reported.get("detail")
    if found is not None and not isinstance(found, str):
        found = msgspec.json.encode(found).decode()
    return (found or "")[:_LONGEST]


def _text(body: bytes) -> str:
    """Give a body that is a line of plain text; empty for any other."""
    text = body[:_LONGEST].decode("utf-8", "replace").strip()
    return text if text and text.isprintable() and text[0] not in "<{[" else ""
