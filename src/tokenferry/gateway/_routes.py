import re
from enum import Enum, auto
from typing import Final

from tokenferry.gateway._answers import Refusal

CONSTANTS: Final = {
    b"/": b'{"name":"tokenferry"}',
    b"/api/hello": b'{"message":"hello"}',
    b"/healthz": b'{"status":"ok"}',
    b"/readyz": b'{"status":"ready"}',
}
"""What needs no key: the same answer for everybody, and no upstream is touched."""

_MODEL: Final = re.compile(rb"/v1/models/[A-Za-z0-9._:@+-]{1,256}")
_DOTS: Final = frozenset((b"/v1/models/.", b"/v1/models/.."))


class Route(Enum):
    CONSTANT = auto()
    INFERENCE = auto()
    MODELS = auto()
    METRICS = auto()


_EXACT: Final = {
    **dict.fromkeys(CONSTANTS, (Route.CONSTANT, ("GET", "HEAD"))),
    b"/v1/messages": (Route.INFERENCE, ("POST",)),
    b"/v1/messages/count_tokens": (Route.INFERENCE, ("POST",)),
    b"/v1/models": (Route.MODELS, ("GET",)),
    b"/metrics": (Route.METRICS, ("GET",)),
}

_RELAYED: Final = {
    ("POST", b"/v1/messages"): Route.INFERENCE,
    ("POST", b"/v1/messages/count_tokens"): Route.INFERENCE,
    ("GET", b"/v1/models"): Route.MODELS,
}


def route(method: str, raw_path: bytes) -> Route:
    """Give the route of a path, compared as it was sent. Raises `Refusal`: 404, 405."""
    found = _EXACT.get(raw_path)
    if found is None:
        if not _MODEL.fullmatch(raw_path) or raw_path in _DOTS:
            raise Refusal(
                404, "not_found_error", "this gateway has no such path; it serves /v1/messages and /v1/models"
            )
        found = (Route.MODELS, ("GET",))
    name, methods = found
    if method not in methods:
        allowed = ", ".join(methods)
        raise Refusal(
            405,
            "invalid_request_error",
            f"this path takes {allowed} only",
            headers=((b"allow", allowed.encode("ascii")),),
        )
    return name


def relayed(method: str, raw_path: bytes) -> Route | None:
    """Give the route of what is relayed as it is; None for all else, refusals included."""
    found = _RELAYED.get((method, raw_path))
    if found is None and method == "GET" and _MODEL.fullmatch(raw_path) and raw_path not in _DOTS:
        return Route.MODELS
    return found
