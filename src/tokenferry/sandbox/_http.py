import json
import re
from dataclasses import dataclass, field
from functools import cached_property
from typing import Any, Literal, NamedTuple
from urllib.parse import parse_qsl, urlsplit

LOOPBACK = frozenset({"127.0.0.1", "localhost", "::1"})
CHAT_PATH = "/v1/chat/completions"
RESPONSES_PATH = "/v1/responses"
_GEMINI = re.compile(
    r"(?P<vertex>/v1/projects/[^/]+/locations/[^/]+/publishers/google|/v1(?:beta)?)/models/(?P<model>[^/:]+)"
    r":(?P<method>generateContent|streamGenerateContent|countTokens)"
)
Dialect = Literal["anthropic", "openai", "gemini"]
STREAM_HEADERS = [("content-type", "text/event-stream; charset=utf-8"), ("cache-control", "no-cache")]


class GeminiPath(NamedTuple):
    """The parts of a path of Google's API."""

    model: str
    method: str
    is_vertex: bool


@dataclass
class Request:
    method: str
    path: str
    query: str
    headers: list[tuple[str, str]]
    body: bytes = field(default=b"", repr=False)

    def header(self, name: str) -> str:
        """The header's values joined by commas; an empty string without any."""
        return ", ".join(value for key, value in self.headers if key == name)

    @property
    def presented(self) -> list[str]:
        """The keys and tokens in its headers."""
        keys = [self.header(name) for name in ("x-api-key", "api-key", "x-goog-api-key")]
        return [secret for secret in (*keys, self.bearer) if secret]

    @property
    def bearer(self) -> str:
        scheme, _, value = self.header("authorization").partition(" ")
        return value.strip() if scheme.lower() == "bearer" else ""

    @cached_property
    def parameters(self) -> dict[str, str]:
        return dict(parse_qsl(self.query, keep_blank_values=True))

    @cached_property
    def form(self) -> list[tuple[str, str]]:
        return parse_qsl(self.body.decode("utf-8", "replace"), keep_blank_values=True)

    @cached_property
    def json(self) -> Any:
        """The parsed body; None if it isn't JSON."""
        try:
            return json.loads(self.body)
        except (ValueError, RecursionError):
            return None

    @property
    def is_json(self) -> bool:
        return self.header("content-type").partition(";")[0].strip().lower() == "application/json"

    @cached_property
    def gemini(self) -> GeminiPath | None:
        """The parts of a path of Google's API; None for another path."""
        found = _GEMINI.fullmatch(self.path)
        return found and GeminiPath(found["model"], found["method"], "projects" in found["vertex"])

    @property
    def wants_stream(self) -> bool:
        if self.gemini is not None:
            return self.gemini.method == "streamGenerateContent"
        is_stream = isinstance(self.json, dict) and self.json.get("stream") is True
        return is_stream and (self.path.endswith(("/messages", ":streamRawPredict")) or self.is_openai)

    @property
    def is_chat(self) -> bool:
        """Whether the answer speaks OpenAI's Chat Completions."""
        return self.path.endswith("/chat/completions")

    @property
    def is_responses(self) -> bool:
        return self.path.endswith("/responses")

    @property
    def is_openai(self) -> bool:
        return self.is_chat or self.is_responses

    @property
    def dialect(self) -> Dialect:
        """The dialect of the answer's errors."""
        if self.is_openai:
            return "openai"
        return "gemini" if self.gemini is not None or self.path.startswith("/v1beta/") else "anthropic"

    @property
    def is_oauth(self) -> bool:
        """Whether the answer speaks OAuth's JSON rather than the API's."""
        return self.path.startswith(("/v1/oauth/", "/oauth/", "/cai/oauth/", "/login/"))

    @property
    def host_is_loopback(self) -> bool:
        try:
            return urlsplit(f"//{self.header('host')}").hostname in LOOPBACK
        except ValueError:
            return False


@dataclass(frozen=True)
class Event:
    """One server-sent event, after a comment if there is one. Without a name it has only data."""

    name: str
    data: dict[str, Any] | str
    comment: str = ""
    newline: str = "\n"

    def encode(self) -> bytes:
        before = f": {self.comment}\n\n" if self.comment else ""
        name = f"event: {self.name}\n" if self.name else ""
        text = self.data if isinstance(self.data, str) else json.dumps(self.data, ensure_ascii=False)
        return f"{before}{name}data: {text}{self.newline * 2}".encode("utf-8", "replace")


@dataclass
class Answer:
    """A whole answer, or (with `events`) a stream of events."""

    status: int = 200
    headers: list[tuple[str, str]] = field(default_factory=list)
    body: bytes = field(default=b"", repr=False)
    events: list[Event] | None = field(default=None, repr=False)


def json_answer(document: Any, status: int = 200, headers: list[tuple[str, str]] | None = None) -> Answer:
    body = json.dumps(document, ensure_ascii=False).encode("utf-8", "replace")
    return Answer(status, [("content-type", "application/json"), *(headers or [])], body)


def text_answer(text: str, status: int = 200) -> Answer:
    return Answer(status, [("content-type", "text/plain; charset=utf-8")], text.encode())


ERROR_TYPES = {
    400: "invalid_request_error",
    401: "authentication_error",
    402: "billing_error",
    403: "permission_error",
    404: "not_found_error",
    405: "invalid_request_error",
    408: "timeout_error",
    409: "conflict_error",
    413: "request_too_large",
    429: "rate_limit_error",
    504: "timeout_error",
    529: "overloaded_error",
}


class ApiError(Exception):
    """An answer in the API's error envelope."""

    def __init__(
        self,
        status: int,
        message: str,
        *,
        headers: list[tuple[str, str]] | None = None,
        details: list[dict[str, Any]] | None = None,
    ) -> None:
        super().__init__(message)
        self.status = status
        self.message = message
        self.headers = headers or []
        self.details = details or []
        """The details of Google's errors."""


def error_envelope(kind: str, message: str, request_id: str) -> dict[str, Any]:
    return {"type": "error", "error": {"type": kind, "message": message}, "request_id": request_id}


_CHAT_CODES = {
    401: "invalid_api_key",
    404: "model_not_found",
    429: "rate_limit_exceeded",
    503: "server_is_overloaded",
}


def chat_error(status: int, message: str, kind: str | None = None) -> dict[str, Any]:
    """An error in OpenAI's format."""
    kind = kind or ("server_error" if status >= 500 else "tokens" if status == 429 else "invalid_request_error")  # noqa: PLR2004
    return {"error": {"message": message, "type": kind, "param": None, "code": _CHAT_CODES.get(status)}}


_GEMINI_STATUSES = {
    400: "INVALID_ARGUMENT",
    401: "UNAUTHENTICATED",
    403: "PERMISSION_DENIED",
    404: "NOT_FOUND",
    429: "RESOURCE_EXHAUSTED",
    503: "UNAVAILABLE",
    504: "DEADLINE_EXCEEDED",
}


def gemini_error(
    status: int, message: str, kind: str | None = None, details: list[dict[str, Any]] | None = None
) -> dict[str, Any]:
    """An error in Google's format."""
    error = {"code": status, "message": message, "status": kind or _GEMINI_STATUSES.get(status, "INTERNAL")}
    return {"error": error | ({"details": details} if details else {})}


def error_answer(
    status: int,
    message: str,
    request_id: str,
    *,
    kind: str | None = None,
    headers: list[tuple[str, str]] | None = None,
    dialect: Dialect = "anthropic",
    details: list[dict[str, Any]] | None = None,
) -> Answer:
    if dialect == "gemini":
        return json_answer(gemini_error(status, message, kind, details), status, headers)
    if dialect == "openai":
        return json_answer(chat_error(status, message, kind), status, headers)
    kind = kind or ERROR_TYPES.get(status, "api_error")
    return json_answer(error_envelope(kind, message, request_id), status, headers)
