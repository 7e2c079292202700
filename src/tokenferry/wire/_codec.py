"""The interface of codecs."""

from typing import Any, Final, Literal, Protocol, TypeAlias

from msgspec import Struct

WireFormat: TypeAlias = Literal["anthropic", "openai", "openai-responses", "gemini"]
"""The API whose shapes a request and its answer have. Vertex AI serves two of them."""


class ClientTool(Struct, frozen=True):
    """A client's tool that was sent under another name or as another kind of tool."""

    name: str
    namespace: str | None = None
    is_custom: bool = False
    """Whether its input is a string, not an object."""


class Sent(Struct, frozen=True, kw_only=True):
    """A translated request, and what the translation of its answer needs to know."""

    body: bytes
    model: str
    stream: bool
    path: str = ""
    """The path at the upstream, below the base URL of its format."""
    left_out: tuple[str, ...] = ()
    """The names of the fields that are not sent."""
    names: dict[str, str] = {}  # msgspec copies it
    """The client's names of tools, by the names that were sent."""
    tools: dict[str, ClientTool] = {}
    """The same for clients of Responses, which have several kinds of tools."""
    wants_usage: bool = True
    """Whether the client wants the usage at the end of a stream."""
    wants_thoughts: bool = True
    """Whether the client wants the model's thoughts."""
    at: int = 0
    """The time of the request in seconds since 1970 UTC, for answers that hold one."""

    hub: "Sent | None" = None
    """The request in the Messages API, if two codecs translated it."""

    def __repr__(self) -> str:
        return f"Sent({self.model!r}, {len(self.body)} bytes)"


class Tokens(Struct, kw_only=True):
    """An upstream's token counts; None for an unknown one. `input` excludes what the cache read and wrote."""

    input: int | None = None
    output: int | None = None
    cache_read: int | None = None
    cache_creation: int | None = None
    thinking: int | None = None
    """The part of `output` spent on reasoning."""


_MOST_TOKENS: Final = 10**9  # no request has more


def table(value: Any) -> dict[str, Any]:
    """Give the value if it is an object; otherwise an empty one."""
    return value if isinstance(value, dict) else {}


def count(value: Any) -> int | None:
    """Give a count of tokens; None if it is none. An answer is not refused for an odd count."""
    return value if type(value) is int and 0 <= value <= _MOST_TOKENS else None


def tokens_with_cache(
    given: int | None, output: int | None, read: int | None, written: int | None, thinking: int | None
) -> Tokens:
    """Give the counts of a format whose input includes what the cache read and wrote."""
    plain = None if given is None else max(given - (read or 0) - (written or 0), 0)
    return Tokens(input=plain, output=output, cache_read=read, cache_creation=written, thinking=thinking)


class StreamTranslator(Protocol):
    """Translates one streamed answer into whole events of the client's format. `end` or `fail` is called last."""

    @property
    def is_complete(self) -> bool:
        """Whether the answer has ended regularly."""
        ...

    @property
    def error(self) -> str | None:
        """The type of the error that ended the answer, in the client's format; None without one."""
        ...

    @property
    def usage(self) -> Tokens: ...

    def feed(self, chunk: bytes, /) -> bytes:
        """Translate a chunk. Give nothing once the answer is complete or has failed."""
        ...

    def end(self) -> bytes:
        """Give the last events after the upstream's end, with an error if the answer is incomplete."""
        ...

    def fail(self, why: str, /) -> bytes:
        """Give the error event that ends a cut answer; nothing if the answer was complete."""
        ...


class Codec(Protocol):
    """Translates requests of one format into another, and the answers back."""

    @property
    def upstream(self) -> WireFormat:
        """The format of the upstream."""
        ...

    def request(self, body: bytes, model: str, *, at: int = 0) -> Sent:
        """Translate a request for an upstream whose name for the model is `model`. Raises `Unfit`."""
        ...

    def answer(self, body: bytes, sent: Sent) -> tuple[bytes, Tokens]:
        """Translate a whole answer with status 200. Raises `UnreadableAnswer`."""
        ...

    def error(self, status: int, body: bytes, request_id: str) -> tuple[int, bytes]:
        """Give the status and the body of an error for the client."""
        ...

    def stream(self, sent: Sent, request_id: str) -> StreamTranslator: ...
