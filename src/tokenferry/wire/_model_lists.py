"""Lists of models, in each vendor's shape."""

from datetime import UTC, datetime
from typing import Any, Final

import msgspec

from tokenferry.errors import UnreadableAnswer
from tokenferry.wire._codec import Sent, StreamTranslator, Tokens, WireFormat
from tokenferry.wire._faults import read_fault
from tokenferry.wire._json import encode
from tokenferry.wire._openai_errors import openai_error
from tokenferry.wire.gemini._errors import gemini_error
from tokenferry.wire.messages._errors import messages_error

UNKNOWN_DATE: Final = "1970-01-01T00:00:00Z"
"""Anthropic's value for an unknown date."""
_MOST_SECONDS: Final = 4_102_444_800
LIST_FIELDS: Final[dict[WireFormat, str]] = {
    "anthropic": "data",
    "openai": "data",
    "openai-responses": "data",
    "gemini": "models",
}
"""The field of a list that holds its entries."""
_METHODS: Final = ("generateContent", "countTokens")


def model_entry(client: WireFormat, known: dict[str, Any]) -> dict[str, Any]:
    """Give a model of Anthropic's or OpenAI's list in the shape of the client's API."""
    name, created_at, created = known["id"], known.get("created_at"), known.get("created")
    if client == "gemini":
        return {
            "name": f"models/{name}",
            "displayName": known.get("display_name") or name,
            "supportedGenerationMethods": [*_METHODS],
        }
    if client == "anthropic":
        if not isinstance(created_at, str):
            at = created if type(created) is int and 0 <= created < _MOST_SECONDS else 0
            created_at = f"{datetime.fromtimestamp(at, UTC):%Y-%m-%dT%H:%M:%SZ}"
        return {
            "type": "model",
            "id": name,
            "display_name": known.get("display_name") or name,
            "created_at": created_at,
        }
    if type(created) is not int:
        created = _seconds(created_at)
    return {"id": name, "object": "model", "created": created, "owned_by": known.get("owned_by") or "unknown"}


def model_list(client: WireFormat, entries: list[dict[str, Any]], *, has_more: bool = False) -> dict[str, Any]:
    """Give a page of entries in the client's shape."""
    if client == "gemini":
        return {LIST_FIELDS[client]: entries}
    if client != "anthropic":
        return {"object": "list", "data": entries}
    ends = {"first_id": entries[0]["id"], "last_id": entries[-1]["id"]} if entries else {}
    return {"data": entries, "has_more": has_more, "first_id": None, "last_id": None, **ends}


class ModelsCodec:
    """Translates a request for models, and the list that answers it."""

    def __init__(self, client: WireFormat, upstream: WireFormat, path: str) -> None:
        """`path` is that of the list or the model at the upstream."""
        self.upstream = upstream
        self._client = client
        self._path = path

    def request(self, body: bytes, model: str, *, at: int = 0) -> Sent:
        return Sent(body=body, model=model, stream=False, path=self._path, at=at)

    def answer(self, body: bytes, sent: Sent) -> tuple[bytes, Tokens]:  # noqa: ARG002  # as of every codec
        """Raises `UnreadableAnswer` for a document that is neither a list of models nor a model."""
        try:
            document = msgspec.json.decode(body)
            if "data" in document or "models" in document:
                entries = document["data"] if "data" in document else document["models"]
                found = model_list(self._client, [model_entry(self._client, _entry(one)) for one in entries])
            else:
                found = model_entry(self._client, _entry(document))
        except (ValueError, RecursionError, TypeError, KeyError):
            raise UnreadableAnswer("the upstream's answer is not a list of models") from None
        return encode(found), Tokens()

    def error(self, status: int, body: bytes, request_id: str) -> tuple[int, bytes]:
        found = read_fault(body, status)
        if self._client == "anthropic":
            return messages_error(found, request_id)
        return gemini_error(found) if self._client == "gemini" else openai_error(found)

    def stream(self, sent: Sent, request_id: str) -> StreamTranslator:
        raise NotImplementedError  # lists of models are never streamed


def _entry(entry: dict[str, Any]) -> dict[str, Any]:
    """Give a model with an `id`, as Anthropic and OpenAI have it; Gemini has its name in a path."""
    if "id" in entry or not isinstance(name := entry["name"], str):
        return entry
    return {"id": name.removeprefix("models/"), "display_name": entry.get("displayName"), "owned_by": "google"}


def _seconds(date: object) -> int:
    try:
        return max(int(datetime.fromisoformat(str(date)).timestamp()), 0)
    except (ValueError, OverflowError):
        return 0
