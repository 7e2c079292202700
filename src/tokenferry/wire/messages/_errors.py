"""Errors in the shape of Anthropic's API."""

import json
from collections.abc import Mapping
from typing import Any, Final

from tokenferry.wire._faults import UpstreamFault, read_fault

_TYPES: Final = {
    400: "invalid_request_error",
    401: "authentication_error",
    402: "billing_error",
    403: "permission_error",
    404: "not_found_error",
    413: "request_too_large",
    429: "rate_limit_error",
    500: "api_error",
    504: "timeout_error",
    529: "overloaded_error",
}


def envelope(kind: str, message: str, request_id: str, details: Mapping[str, Any] | None = None) -> bytes:
    """Give the JSON of an error. `kind` is one of Anthropic's types; `details` are for programs."""
    error = {"type": kind, "message": message, **({} if details is None else {"details": details})}
    return json.dumps({"type": "error", "error": error, "request_id": request_id}).encode("ascii")


def error_event(kind: str, message: str, request_id: str) -> bytes:
    """Give the error as the event that ends a stream."""
    return b"event: error\ndata: " + envelope(kind, message, request_id) + b"\n\n"


def foreign_error(status: int, body: bytes, request_id: str) -> tuple[int, bytes] | None:
    """Give the status and the body for an error in another shape than Anthropic's; None for one in that shape."""
    try:
        document = json.loads(body)
    except (ValueError, RecursionError):
        document = None
    if isinstance(document, dict) and document.get("type") == "error":
        return None
    return messages_error(read_fault(body, status), request_id)


def type_of_fault(fault: UpstreamFault) -> str:
    return _TYPES[400 if fault.is_too_long else fault.status]


def fault_message(fault: UpstreamFault) -> str:
    """Give the message for a client. Claude Code shortens a conversation on one that begins "prompt is too long"."""
    return f"prompt is too long: {fault.message}" if fault.is_too_long else fault.message


def messages_error(fault: UpstreamFault, request_id: str) -> tuple[int, bytes]:
    """Give the status and the body of an error for a client of the Messages API."""
    status = 400 if fault.is_too_long else fault.status
    return status, envelope(type_of_fault(fault), fault_message(fault), request_id)
