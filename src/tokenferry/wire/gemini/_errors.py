"""Errors in the shape of Gemini's API."""

from collections.abc import Sequence
from typing import Any, Final

import msgspec

from tokenferry.wire._faults import UpstreamFault, read_fault
from tokenferry.wire._json import encode
from tokenferry.wire.gemini._meaning import unusable_end

_STATUSES: Final = {
    400: "INVALID_ARGUMENT",
    401: "UNAUTHENTICATED",
    403: "PERMISSION_DENIED",
    404: "NOT_FOUND",
    429: "RESOURCE_EXHAUSTED",
    500: "INTERNAL",
    503: "UNAVAILABLE",
    504: "DEADLINE_EXCEEDED",
}
_SERVER_ERROR: Final = 500
_OTHERS: Final = {402: 429, 413: 400, 529: 503}
"""Gemini's statuses in place of those that it does not use."""
_BY_KIND: Final = {
    "invalid_request_error": 400,
    "request_too_large": 400,
    "authentication_error": 401,
    "permission_error": 403,
    "not_found_error": 404,
    "rate_limit_error": 429,
    "billing_error": 429,
    "overloaded_error": 503,
    "timeout_error": 504,
}


def gemini_envelope(kind: str, message: str, request_id: str) -> bytes:  # noqa: ARG001  # it has no field
    """Give the JSON of an error. `kind` is one of Anthropic's types."""
    return _document(_BY_KIND.get(kind, 500), message)


def gemini_refusal(status: int, message: str, retry_after: int | None) -> bytes:
    """Give the JSON of an error with this HTTP status. `retry_after` is in seconds, None if unknown."""
    wait = {"@type": "type.googleapis.com/google.rpc.RetryInfo", "retryDelay": f"{retry_after}s"}
    return _document(status, message, () if retry_after is None else (wait,))


def gemini_error_event(kind: str, message: str, request_id: str) -> bytes:
    """Give the error as the event that ends a stream; the SDKs raise it."""
    return b"data: " + gemini_envelope(kind, message, request_id) + b"\n\n"


def gemini_error(fault: UpstreamFault) -> tuple[int, bytes]:
    """Give the status and the body of an error for a client of Gemini."""
    code = _OTHERS.get(fault.status, fault.status)
    return code, _document(code, fault.message)


def gemini_status(code: int) -> str:
    """Give the name of an HTTP status, as Google's APIs have it."""
    return _STATUSES.get(code, "INVALID_ARGUMENT" if code < _SERVER_ERROR else "INTERNAL")


def _document(code: int, message: str, details: Sequence[dict[str, Any]] = ()) -> bytes:
    error: dict[str, Any] = {"code": code, "message": message, "status": gemini_status(code)}
    if details:
        error["details"] = details
    return encode({"error": error})


def read_gemini_fault(body: bytes, status: int) -> UpstreamFault:
    """Read the error in an upstream's answer with this status, which may be an answer that ended without content."""
    try:
        document = msgspec.json.decode(body)
    except (ValueError, RecursionError):
        document = None
    found = unusable_end(document) if isinstance(document, dict) and "error" not in document else None
    return found or read_fault(body, status)
