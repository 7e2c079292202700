import re
from enum import Enum, auto
from typing import Final

from tokenferry.gateway.http.client_api import CLIENT_APIS
from tokenferry.gateway.http.errors import GatewayError
from tokenferry.gateway.http.model_path import METHODS, MODELS, model_path

CONSTANTS: Final = {
    b"/": b'{"name":"tokenferry"}',
    b"/api/hello": b'{"message":"hello"}',
    b"/healthz": b'{"status":"ok"}',
    b"/readyz": b'{"status":"ready"}',
}
"""Answers that are the same for every client. They need no key and no upstream."""
READY: Final = b"/readyz"
"""Answers 503 while the gateway starts or drains."""

_MODEL: Final = re.compile(rb"/v1(?:beta)?/models/(?!\.{1,2}$|.*:[a-z]+[A-Z])[A-Za-z0-9._:@+-]{1,256}")


class Endpoint(Enum):
    """The kind of a path."""

    CONSTANT = auto()
    INFERENCE = auto()
    MODELS = auto()
    UNPRICED = auto()
    METRICS = auto()


EMBEDDINGS: Final = b"/v1/embeddings"
BATCHES: Final = b"/v1/messages/batches"
FILES: Final = b"/v1/files"
_STORED_OBJECTS: Final[tuple[tuple[re.Pattern[bytes], tuple[str, ...]], ...]] = (
    (re.compile(rb"/v1/(?:messages/batches|files)"), ("GET", "POST")),
    (re.compile(rb"/v1/(?:messages/batches|files)/[A-Za-z0-9_-]{1,256}"), ("GET", "DELETE")),
    (
        re.compile(rb"/v1/(?:messages/batches/[A-Za-z0-9_-]{1,256}/results|files/[A-Za-z0-9_-]{1,256}/content)"),
        ("GET",),
    ),
    (re.compile(rb"/v1/messages/batches/[A-Za-z0-9_-]{1,256}/cancel"), ("POST",)),
)
"""Paths of objects that an account stores, with their methods."""


OLLAMA: Final = frozenset((b"/api/chat", b"/api/generate", b"/api/tags"))
"""Ollama's paths, which look like those of the control plane."""

_OTHER_FORMATS: Final = (
    ("OpenAI's legacy Completions", re.compile(rb"(?:/v1)*/completions")),
    ("Vertex AI's", re.compile(rb"/v1/projects/.*")),
    ("Bedrock's", re.compile(rb"/model/.*")),
    ("Ollama's", re.compile(b"|".join(sorted(OLLAMA)))),
)
_GEMINIS: Final = re.compile(rb"/v1(?:(?:alpha|beta)[0-9]*/(?!projects/).*|/models/[^:]+:[a-z]+[A-Z]\w*)")
_STORED: Final = re.compile(rb"/v1/responses/.+")
_TWICE: Final = re.compile(
    rb"(?:/v1(?:/messages|/chat/completions|/responses)?)+/v1/(?:messages|models|chat/completions|responses)(?:/.*)?"
)
_WITHOUT: Final = re.compile(rb"/(?:messages|models|chat/completions|responses)(?:/.*)?")

_EXACT: Final = {
    **dict.fromkeys(CONSTANTS, (Endpoint.CONSTANT, ("GET", "HEAD"))),
    **dict.fromkeys(CLIENT_APIS, (Endpoint.INFERENCE, ("POST",))),
    b"/v1/messages/count_tokens": (Endpoint.INFERENCE, ("POST",)),
    b"/v1/models": (Endpoint.MODELS, ("GET",)),
    MODELS: (Endpoint.MODELS, ("GET",)),
    EMBEDDINGS: (Endpoint.UNPRICED, ("POST",)),
    b"/metrics": (Endpoint.METRICS, ("GET",)),
}

_RELAYED: Final = {
    **{("POST", path): Endpoint.INFERENCE for path in CLIENT_APIS},
    ("POST", b"/v1/messages/count_tokens"): Endpoint.INFERENCE,
    ("GET", b"/v1/models"): Endpoint.MODELS,
    ("GET", MODELS): Endpoint.MODELS,
    ("POST", EMBEDDINGS): Endpoint.UNPRICED,
}
_PROXIED: Final = (*CLIENT_APIS, b"/v1/messages/count_tokens", BATCHES, FILES, EMBEDDINGS, b"/v1/models", MODELS)
SERVED: Final = ", ".join([*(path.decode("ascii") for path in _PROXIED), f"{MODELS.decode()}/MODEL:{METHODS[0]}"])
"""The proxied paths, as error messages list them."""


def route(method: str, raw_path: bytes) -> Endpoint:
    """Give the endpoint of a raw path. Raises `GatewayError`: 404, 405."""
    found = _EXACT.get(raw_path) or _by_pattern(raw_path)
    if found is None or (found[0] is Endpoint.MODELS and method == "POST" and b":" in raw_path):
        # A POST to a model is a method of Gemini's API that isn't served, not a model with a colon in its name.
        raise GatewayError(404, "not_found_error", f"this gateway has no such path; {_what_to_change(raw_path)}")
    name, methods = found
    if method not in methods:
        allowed = ", ".join(methods)
        raise GatewayError(
            405,
            "invalid_request_error",
            f"this path allows only {allowed}",
            headers=((b"allow", allowed.encode("ascii")),),
        )
    return name


def proxied(method: str, raw_path: bytes) -> Endpoint | None:
    """Give the endpoint of a proxied request; None for all others, including errors."""
    known = _RELAYED.get((method, raw_path))
    if known is None and (found := _by_pattern(raw_path)) is not None and method in found[1]:
        return found[0]
    return known


def _by_pattern(raw_path: bytes) -> tuple[Endpoint, tuple[str, ...]] | None:
    if model_path(raw_path) is not None:
        return Endpoint.INFERENCE, ("POST",)
    if _MODEL.fullmatch(raw_path):
        return Endpoint.MODELS, ("GET",)
    methods = next((methods for pattern, methods in _STORED_OBJECTS if pattern.fullmatch(raw_path)), None)
    return None if methods is None else (Endpoint.UNPRICED, methods)


def _what_to_change(raw_path: bytes) -> str:
    if _GEMINIS.fullmatch(raw_path):
        methods = ", ".join(METHODS)
        return f"of Gemini's API it serves GET {MODELS.decode()}, and POST {MODELS.decode()}/MODEL:METHOD for {methods}"
    for whose, pattern in _OTHER_FORMATS:
        if pattern.fullmatch(raw_path):
            return (
                f"it belongs to {whose} API, but this gateway serves Anthropic's Messages, OpenAI's Chat Completions "
                "and Responses, and the Gemini API; choose one of them in the client"
            )
    if _STORED.fullmatch(raw_path):
        return "it stores no answers; send POST /v1/responses with the whole conversation"
    if _TWICE.fullmatch(raw_path):
        return "the client adds /v1 itself; remove /v1 and everything after it from its base URL"
    if _WITHOUT.fullmatch(raw_path):
        return "add /v1 to the end of the client's base URL"
    return f"it serves {SERVED}"
