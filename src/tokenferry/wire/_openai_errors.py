"""Errors in the shape of OpenAI's APIs."""

from typing import Final

from tokenferry.wire._faults import UpstreamFault
from tokenferry.wire._json import encode

_BY_STATUS: Final[dict[int, tuple[int, str, str | None]]] = {
    400: (400, "invalid_request_error", None),
    401: (401, "invalid_request_error", "invalid_api_key"),
    402: (429, "insufficient_quota", "insufficient_quota"),
    403: (403, "invalid_request_error", "permission_denied"),
    404: (404, "invalid_request_error", "model_not_found"),
    413: (413, "invalid_request_error", "request_too_large"),
    429: (429, "rate_limit_error", "rate_limit_exceeded"),
    500: (500, "server_error", None),
    504: (504, "server_error", "timeout"),
    529: (503, "server_error", "server_is_overloaded"),
}
_BY_KIND: Final[dict[str, tuple[str, str | None]]] = {
    "invalid_request_error": ("invalid_request_error", None),
    "authentication_error": ("invalid_request_error", "invalid_api_key"),
    "permission_error": ("invalid_request_error", "permission_denied"),
    "not_found_error": ("invalid_request_error", "not_found"),
    "request_too_large": ("invalid_request_error", "request_too_large"),
    "rate_limit_error": ("rate_limit_error", "rate_limit_exceeded"),
    "billing_error": ("insufficient_quota", "insufficient_quota"),
    "timeout_error": ("server_error", "timeout"),
    "overloaded_error": ("server_error", "server_is_overloaded"),
}


def openai_envelope(kind: str, message: str, request_id: str) -> bytes:  # noqa: ARG001  # it has no field
    """Give the JSON of an error. `kind` is one of Anthropic's types."""
    return _document(message, *words_of_kind(kind))


def words_of_kind(kind: str) -> tuple[str, str | None]:
    """Give the type and the code of an error, by Anthropic's type."""
    return _BY_KIND.get(kind, ("server_error", None))


def chat_error_event(kind: str, message: str, request_id: str) -> bytes:
    """Give the error as the event that ends a stream; `[DONE]` does not follow."""
    return b"data: " + openai_envelope(kind, message, request_id) + b"\n\n"


def _document(message: str, kind: str, code: str | None) -> bytes:
    return encode({"error": {"message": message, "type": kind, "param": None, "code": code}})


def openai_error(fault: UpstreamFault) -> tuple[int, bytes]:
    """Give the status and the body of an error for a client of OpenAI's APIs."""
    status, kind, code = words_of_fault(fault)
    return status, _document(fault.message, kind, code)


def words_of_fault(fault: UpstreamFault) -> tuple[int, str, str | None]:
    """Give the status, the type and the code of an error."""
    status, kind, code = _BY_STATUS[fault.status]
    return (400, _BY_STATUS[400][1], "context_length_exceeded") if fault.is_too_long else (status, kind, code)
