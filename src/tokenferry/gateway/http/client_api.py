"""The APIs of clients, and their differences, in one table."""

import re
from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import Final

from msgspec import Struct

from tokenferry.routing import BodyFacts, Malformed, scan
from tokenferry.streaming import DIALECTS, Dialect
from tokenferry.wire import WireFormat, envelope, gemini_envelope, gemini_refusal, openai_envelope


class ClientApi(Struct, frozen=True, eq=False):
    """One API of clients. `wire.codec` translates between it and an upstream's format."""

    name: WireFormat
    path: bytes
    """The path of inference; for Gemini the beginning of such paths."""
    base: bytes
    """The prefix of its paths that belongs to the base URL of upstreams of this format."""
    envelope: Callable[[str, str, str], bytes]
    """Gives the JSON of an error, for Anthropic's type, a message and the request id."""
    dialect: Dialect
    """The readers of its answers."""
    refusal: Callable[[int, str, int | None], bytes] | None = None
    """Gives the JSON of an error for a status, a message and a wait in seconds, if the API has fields for them."""
    read: Callable[[Sequence[bytes | bytearray]], BodyFacts | Malformed] = scan
    """Reads the facts of a request's body."""


MESSAGES: Final = ClientApi("anthropic", b"/v1/messages", b"", envelope, DIALECTS["anthropic"])
CHAT: Final = ClientApi("openai", b"/v1/chat/completions", b"/v1", openai_envelope, DIALECTS["openai"])
RESPONSES: Final = ClientApi(
    "openai-responses", b"/v1/responses", b"/v1", openai_envelope, DIALECTS["openai-responses"]
)
GEMINI: Final = ClientApi("gemini", b"/v1beta/models", b"", gemini_envelope, DIALECTS["gemini"], gemini_refusal)
CLIENT_APIS: Final[Mapping[bytes, ClientApi]] = {one.path: one for one in (MESSAGES, CHAT, RESPONSES)}
"""The APIs by path of inference. Gemini's paths name a model (`model_path`), so it is not included."""

_GEMINIS: Final = re.compile(rb"/v1(?:(?:alpha|beta)[0-9]*/|/models/[^:]+:[a-z]+[A-Z])")
_OPENAIS: Final = re.compile(rb"(?:/v1)*/(?:chat/|completions|embeddings|responses)")
_ANTHROPICS: Final = frozenset((b"anthropic-version", b"anthropic-beta", b"x-api-key"))
_GOOGLES: Final = frozenset((b"x-goog-api-key", b"x-goog-api-client"))


def api_asked(headers: Iterable[tuple[bytes, bytes]]) -> ClientApi:
    """Give the API of a request to a path that all vendors share, by headers that only their clients send."""
    names = {name for name, _ in headers}
    return GEMINI if _GOOGLES & names else MESSAGES if _ANTHROPICS & names else CHAT


def api_of(path: bytes) -> ClientApi:
    """Give the API whose errors a client of this path expects, whether the path is served or not."""
    known = CLIENT_APIS.get(path)
    if known is not None:
        return known
    return CHAT if _OPENAIS.match(path) else GEMINI if _GEMINIS.match(path) else MESSAGES
