"""What every codec does. A codec knows no clock, no randomness and no socket."""

from typing import Final, Literal, Protocol, TypeAlias

from msgspec import Struct

WireFormat: TypeAlias = Literal["anthropic", "openai", "openai-responses", "gemini"]
"""What requests and answers are written in. Vertex AI has two of them behind one address."""


class ClientTool(Struct, frozen=True):
    """What a client calls a tool that was sent by another name or as one of another kind."""

    name: str
    namespace: str | None = None
    is_custom: bool = False
    """Whether it takes a text, and not the fields of a schema."""


class Sent(Struct, frozen=True, kw_only=True):
    """A request as the upstream takes it, and what its answer's translation must know of it."""

    body: bytes
    model: str
    stream: bool
    path: str = ""
    """Where the upstream takes it, below the base URL of its format."""
    left_out: tuple[str, ...] = ()
    """The fields that the upstream is not sent, by name."""
    names: dict[str, str] = {}  # msgspec copies it
    """The client's names of tools, by those that were sent in their place."""
    tools: dict[str, ClientTool] = {}
    """The same for clients of Responses, whose tools are of several kinds."""
    wants_usage: bool = True
    """Whether a stream is to end with its usage."""
    wants_thoughts: bool = True
    """Whether the answer is to tell what the model thought."""
    at: int = 0
    """When it was sent, in seconds since 1970 UTC, for answers that name a time."""

    hub: "Sent | None" = None
    """The request in the Messages API, of one that came to its format through that."""

    def __repr__(self) -> str:
        return f"Sent({self.model!r}, {len(self.body)} bytes)"


class Tokens(Struct, kw_only=True):
    """Tokens as an upstream counted them; None where it said nothing. Input excludes what the cache read and wrote."""

    input: int | None = None
    output: int | None = None
    cache_read: int | None = None
    cache_creation: int | None = None


_MOST_TOKENS: Final = 10**9  # no request has more


def tokens_with_cache(given: int | None, output: int | None, read: int | None, written: int | None) -> Tokens:
    """What was counted, of formats whose input includes what the cache read and wrote."""
    given, output, read, written = (
        count if count is not None and 0 <= count <= _MOST_TOKENS else None for count in (given, output, read, written)
    )
    plain = None if given is None else max(given - (read or 0) - (written or 0), 0)
    return Tokens(input=plain, output=output, cache_read=read, cache_creation=written)


class StreamTranslator(Protocol):
    """An answer in events on its way. Whole events of the client's format come out; one of `end` and `fail` is last."""

    @property
    def is_complete(self) -> bool:
        """Whether the answer has come to its own end."""
        ...

    @property
    def error(self) -> str | None:
        """The type of the error that ended it, in the client's format."""
        ...

    @property
    def usage(self) -> Tokens: ...

    def feed(self, chunk: bytes, /) -> bytes:
        """Give what the chunk adds; nothing once the answer is complete or has failed."""
        ...

    def end(self) -> bytes:
        """Give the last of it, when the upstream has ended it: an error if anything is missing. Harmless when it is."""
        ...

    def fail(self, why: str, /) -> bytes:
        """Give the error that ends an answer that was cut off, and nothing if it was complete."""
        ...


class Codec(Protocol):
    """Translates requests of one format into another, and the answers back."""

    @property
    def upstream(self) -> WireFormat:
        """The format of the requests that it writes, and of the answers that it reads."""
        ...

    def request(self, body: bytes, model: str, *, at: int = 0) -> Sent:
        """The request for an upstream that calls the model so. Raises `Unfit`."""
        ...

    def answer(self, body: bytes, sent: Sent) -> tuple[bytes, Tokens]:
        """A whole answer with status 200. Raises `UnreadableAnswer` for what can't be one."""
        ...

    def error(self, status: int, body: bytes, request_id: str) -> tuple[int, bytes]:
        """The status and the body of an error."""
        ...

    def stream(self, sent: Sent, request_id: str) -> StreamTranslator: ...
