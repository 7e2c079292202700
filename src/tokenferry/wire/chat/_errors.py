from typing import Final

from tokenferry.wire._faults import UpstreamFault
from tokenferry.wire._json import encode

_WORDS: Final[dict[int, tuple[int, str, str | None]]] = {
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


def chat_error(fault: UpstreamFault) -> tuple[int, bytes]:
    """The status and the body of an error for a client of Chat Completions."""
    status, kind, code = _WORDS[fault.status]
    if fault.is_too_long:
        status, code = 400, "context_length_exceeded"
    return status, encode({"error": {"message": fault.message, "type": kind, "param": None, "code": code}})


def type_of_chat_error(fault: UpstreamFault) -> str:
    return _WORDS[fault.status][1]
