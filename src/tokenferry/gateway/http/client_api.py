"""The APIs that clients may speak: what differs between them, in one table."""

import re
from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import Final

from msgspec import Struct

from tokenferry.routing import BodyFacts, Malformed, scan
from tokenferry.streaming import DIALECTS, Dialect
from tokenferry.wire import WireFormat, envelope, gemini_envelope, gemini_refusal, openai_envelope


class ClientApi(Struct, frozen=True, eq=False):
    """One API of clients. `wire.codec` says what translates between it and the format of an upstream."""

    name: WireFormat
    path: bytes
    """Where clients ask for an answer; of Gemini what those paths begin with."""
    base: bytes
    """The beginning of its paths that is part of the base URL of upstreams of this format."""
    envelope: Callable[[str, str, str], bytes]
    """Words an error: by a type of Anthropic's, a message and the request's id."""
    dialect: Dialect
    """What reads its answers."""
    refusal: Callable[[int, str, int | None], bytes] | None = None
    """Words a refusal by its status, a message and a wait in seconds, where the API has places for those."""
    read: Callable[[Sequence[bytes | bytearray]], BodyFacts | Malformed] = scan
    """Finds the model and whether a stream is asked for."""


MESSAGES: Final = ClientApi("anthropic", b"/v1/messages", b"", envelope, DIALECTS["anthropic"])
CHAT: Final = ClientApi("openai", b"/v1/chat/completions", b"/v1", openai_envelope, DIALECTS["openai"])
RESPONSES: Final = ClientApi(
    "openai-responses", b"/v1/responses", b"/v1", openai_envelope, DIALECTS["openai-responses"]
)
GEMINI: Final = ClientApi("gemini", b"/v1beta/models", b"", gemini_envelope, DIALECTS["gemini"], gemini_refusal)
CLIENT_APIS: Final[Mapping[bytes, ClientApi]] = {one.path: one for one in (MESSAGES, CHAT, RESPONSES)}
"""By the path that asks for an answer. Each is served by upstreams of its own format and of those it translates to.

Gemini's isn't among them: its paths name a model (`model_path`).
"""

_GEMINIS: Final = re.compile(rb"/v1(?:(?:alpha|beta)[0-9]*/|/models/[^:]+:[a-z]+[A-Z])")
_OPENAIS: Final = re.compile(rb"(?:/v1)*/(?:chat/|completions|embeddings|responses)")
_ANTHROPICS: Final = frozenset((b"anthropic-version", b"anthropic-beta", b"x-api-key"))
_GOOGLES: Final = frozenset((b"x-goog-api-key", b"x-goog-api-client"))


def api_asked(headers: Iterable[tuple[bytes, bytes]]) -> ClientApi:
    """The API of a request to a path that all vendors have.

    Each program of Anthropic's names a version, and others that speak its API use its header for the key. Google's
    SDKs say what they are.
    """
    names = {name for name, _ in headers}
    return GEMINI if _GOOGLES & names else MESSAGES if _ANTHROPICS & names else CHAT


def api_of(path: bytes) -> ClientApi:
    """The format in which a client that asks for this path understands an error, whether the path is served or not."""
    known = CLIENT_APIS.get(path)
    if known is not None:
        return known
    return CHAT if _OPENAIS.match(path) else GEMINI if _GEMINIS.match(path) else MESSAGES
