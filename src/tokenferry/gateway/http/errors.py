"""The gateway's own errors, in the client's format: one sentence each, with the remedy."""

import math
from collections.abc import Mapping
from typing import Any, Final

from tokenferry.errors import (
    CorruptFile,
    PolicyRefused,
    StorageFailed,
    TokenferryError,
    TryLater,
    UnknownAccount,
    UnsafeFile,
)
from tokenferry.gateway.http.client_api import MESSAGES, ClientApi
from tokenferry.routing import NoRoute
from tokenferry.upstream import AnswerTimeout, BadRequest, UpstreamClosed, UpstreamError
from tokenferry.wire import envelope

REQUEST_ID: Final = b"x-tokenferry-request-id"
ERROR_MARK: Final = b"x-tokenferry-error"
"""The header that marks the gateway's own errors and holds their code."""

_RETRY_AFTER: Final = 2
_DISK_RETRY_AFTER: Final = 10


Headers = list[tuple[bytes, bytes]]


class GatewayError(Exception):  # an answer, not a failure of the program
    """An error that the gateway itself answers. `retry_after` is in seconds.

    `cause` is a code for programs, more specific than `kind`, which is one of the API's types. `details` are what
    clients of the Messages API get besides.
    """

    def __init__(
        self,
        status: int,
        kind: str,
        message: str,
        *,
        should_retry: bool = False,
        retry_after: int | None = None,
        headers: tuple[tuple[bytes, bytes], ...] = (),
        cause: str | None = None,
        details: Mapping[str, Any] | None = None,
    ) -> None:
        super().__init__(message)
        self.status = status
        self.kind = kind
        self.message = message
        self.should_retry = should_retry
        self.retry_after = retry_after
        self.headers = headers
        self.cause = cause or kind
        self.details = details

    def body(self, request_id: str, client: ClientApi = MESSAGES) -> bytes:
        if client.refusal is not None:
            return client.refusal(self.status, self.message, self.retry_after)
        if self.details is not None and client is MESSAGES:
            return envelope(self.kind, self.message, request_id, self.details)
        return client.envelope(self.kind, self.message, request_id)

    def head(self, length: int) -> Headers:
        """Give the answer's headers without the request id."""
        headers: Headers = [
            (b"content-type", b"application/json"),
            (b"content-length", b"%d" % length),
            (b"x-should-retry", b"true" if self.should_retry else b"false"),
            (ERROR_MARK, self.cause.encode("ascii")),
            *self.headers,
        ]
        if self.retry_after is not None:
            headers.append((b"retry-after", b"%d" % self.retry_after))
        return headers


def refusal_to_route(found: NoRoute) -> GatewayError:
    """Give the error for a request without a route."""
    return GatewayError(found.status, found.kind, found.message, cause=found.cause)


def cause_of(fault: TokenferryError) -> str:
    """Give the code of a fault: `needs_login`, `upstream_cut`."""
    if isinstance(fault, UpstreamError):
        return fault.cause
    return fault.word()


def gateway_error_of(fault: TokenferryError) -> GatewayError:
    """Give the error for a client about a fault."""
    error = _error_of(fault)
    error.cause = cause_of(fault)
    return error


def _error_of(fault: TokenferryError) -> GatewayError:
    message = _message_of(fault)
    match fault:
        case UpstreamError():
            return _of_upstream(fault)
        case TryLater() | StorageFailed():
            wait = fault.retry_after if isinstance(fault, TryLater) else _DISK_RETRY_AFTER
            seconds = _RETRY_AFTER if wait is None else math.ceil(wait)
            return GatewayError(503, "api_error", message, should_retry=True, retry_after=max(seconds, 1))
        case UnknownAccount():
            message = "the account was just removed; send the request again"
            return GatewayError(503, "api_error", message, should_retry=True, retry_after=_RETRY_AFTER)
        case PolicyRefused():
            return GatewayError(403, "permission_error", message)
        case UnsafeFile() | CorruptFile():
            return GatewayError(500, "api_error", message)
        case _:
            return GatewayError(503, "api_error", message)


def combined_error(faults: list[TokenferryError]) -> GatewayError:
    """Give one error for several unusable accounts."""
    errors = [gateway_error_of(fault) for fault in faults]
    later = [error for error in errors if error.should_retry]
    chosen = min(later or errors, key=lambda error: error.retry_after or 0)
    if len(faults) > 1:
        reasons = "; ".join(dict.fromkeys(map(_message_of, faults)))
        chosen.message = f"none of the {len(faults)} accounts can be used: {reasons}"
    return chosen


def _message_of(fault: TokenferryError) -> str:
    return fault.for_clients or str(fault)


def _of_upstream(fault: UpstreamError) -> GatewayError:
    match fault:
        case BadRequest():
            return GatewayError(400, "invalid_request_error", str(fault))
        case UpstreamClosed():
            message = "the gateway is shutting down; send the request again when it is back"
            return GatewayError(503, "api_error", message, should_retry=True, retry_after=_RETRY_AFTER)
        case _ if not fault.sent:
            message = f"could not reach {fault.host} ({fault}); nothing was sent: check the network, then try again"
            status = 504 if isinstance(fault, AnswerTimeout) else 502
            return GatewayError(status, "api_error", message, should_retry=True)
        case AnswerTimeout():
            return GatewayError(
                504, "timeout_error", f"{fault}; the request was sent and may be billed", should_retry=True
            )
        case _:
            return GatewayError(502, "api_error", f"{fault}; the request was sent and may be billed", should_retry=True)
