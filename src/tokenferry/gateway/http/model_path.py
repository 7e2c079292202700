"""Paths of Gemini's API, which hold the model and the method, instead of the body."""

import re
from functools import lru_cache
from typing import Final
from urllib.parse import parse_qsl, quote, unquote_to_bytes, urlencode

import msgspec
from msgspec import Raw, Struct

from tokenferry.gateway.http.errors import GatewayError
from tokenferry.routing import LONGEST_MODEL

MODELS: Final = b"/v1beta/models"
METHODS: Final = ("generateContent", "streamGenerateContent", "countTokens")
_PATH: Final = re.compile(
    rb"/v1(?:beta)?/models/([A-Za-z0-9._:@+/%%-]{1,%d}):(%b)" % (LONGEST_MODEL, "|".join(METHODS).encode("ascii"))
)
_NOWHERE: Final = frozenset(("", ".", ".."))
_SAFE: Final = "/@:+"
_COLLECTIONS: Final = ("models/", "tunedModels/")
"""The prefixes of the vendor's full model names."""
_COUNTED: Final = ("generateContentRequest", "generate_content_request")
# Their values stay as they are: a number like 1e999 is the vendor's to refuse.
_members: Final = msgspec.json.Decoder(dict[str, Raw])


class ModelPath(Struct, frozen=True):
    """The model and the method in a path."""

    model: str
    method: str

    @property
    def is_stream(self) -> bool:
        return self.method == "streamGenerateContent"

    @property
    def is_count(self) -> bool:
        return self.method == "countTokens"

    def target(self, model: str) -> bytes:
        """Give the target for another model, below the API's base URL. Streams are requested as SSE."""
        path = quote(_full_name(model), safe=_SAFE)
        return f"/{path}:{self.method}{'?alt=sse' if self.is_stream else ''}".encode("ascii")

    def renamed(self, body: bytes, model: str) -> bytes:
        """Give the body for another model. A request for a token count names the model in its body, too.

        Raises `GatewayError` for half a surrogate pair.
        """
        if not self.is_count:
            return body
        name = Raw(msgspec.json.encode(_full_name(model)))
        try:
            document = _members.decode(body)
            named = {key: document[key] for key in _COUNTED if key in document}
            counted = {key: _members.decode(one) for key, one in named.items() if bytes(memoryview(one)[:1]) == b"{"}
        except msgspec.DecodeError:
            message = "the request's body has half a surrogate pair; send whole characters"
            raise GatewayError(400, "invalid_request_error", message) from None
        others = {key: one for key, one in counted.items() if one.get("model", name) != name}
        for key, one in others.items():
            document[key] = Raw(msgspec.json.encode({**one, "model": name}))
        return msgspec.json.encode(document) if others else body


def _full_name(model: str) -> str:
    return model if model.startswith(_COLLECTIONS) else f"models/{model}"


def without_version(target: bytes) -> bytes:
    """Give a target without the API's version, which is part of the base URL."""
    return target[target.index(b"/models") :]


@lru_cache(maxsize=1024)
def model_path(path: bytes) -> ModelPath | None:
    """Read the model and the method in a path; None for any other path."""
    found = _PATH.fullmatch(path)
    if found is None:
        return None
    try:
        model = unquote_to_bytes(found[1]).decode()
    except UnicodeDecodeError:
        return None
    is_odd = not model.isprintable() or not _NOWHERE.isdisjoint(model.split("/"))
    return None if is_odd else ModelPath(model, found[2].decode("ascii"))


def take_key(target: bytes) -> tuple[bytes, str | None]:
    """Remove the client key that Gemini's clients may put into the query. Give the target and the key.

    The vendor's override parameters (`$…`) are removed, too. Raises `GatewayError` for two keys.
    """
    path, _, query = target.partition(b"?")
    try:
        pairs = parse_qsl(query.decode("ascii"), keep_blank_values=True, max_num_fields=100)
    except ValueError:
        raise GatewayError(400, "invalid_request_error", "the query can't be read") from None
    keys = {value for name, value in pairs if name == "key" and value}
    if len(keys) > 1:
        raise GatewayError(400, "invalid_request_error", "two keys were sent in the query; send only one")
    rest = urlencode([(name, value) for name, value in pairs if name != "key" and not name.startswith("$")])
    return path + (b"?" + rest.encode("ascii") if rest else b""), keys.pop() if keys else None
