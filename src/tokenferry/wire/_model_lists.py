"""Lists of models, which both vendors serve at one path in two shapes."""

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
"""What Anthropic's reference says stands for a date that isn't known."""
_MOST_SECONDS: Final = 4_102_444_800
LIST_FIELDS: Final[dict[WireFormat, str]] = {
    "anthropic": "data",
    "openai": "data",
    "openai-responses": "data",
    "gemini": "models",
}
"""The field of a list that has its entries."""
_METHODS: Final = ("generateContent", "countTokens")


def model_entry(client: WireFormat, known: dict[str, Any]) -> dict[str, Any]:
    """A model in the shape of a client's API; of a model as either API tells it."""
    name, created_at, created = known["id"], known.get("created_at"), known.get("created")
    if client == "gemini":
        return {
            "name": f"models/{name}",
            "displayName": known.get("display_name") or name,
            "supportedGenerationMethods": [*_METHODS],
        }
    if client == "anthropic":
        if not isinstance(created_at, str):
            at = created if isinstance(created, int) and 0 <= created < _MOST_SECONDS else 0
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
    """A page of entries in a client's shape."""
    if client == "gemini":
        return {LIST_FIELDS[client]: entries}
    if client != "anthropic":
        return {"object": "list", "data": entries}
    ends = {"first_id": entries[0]["id"], "last_id": entries[-1]["id"]} if entries else {}
    return {"data": entries, "has_more": has_more, "first_id": None, "last_id": None, **ends}


class ModelsCodec:
    """A question for models before an upstream of the other shape."""

    def __init__(self, client: WireFormat, upstream: WireFormat, path: str) -> None:
        """`path` is where the upstream has what the client asks for."""
        self.upstream = upstream
        self._client = client
        self._path = path

    def request(self, body: bytes, model: str, *, at: int = 0) -> Sent:
        return Sent(body=body, model=model, stream=False, path=self._path, at=at)

    def answer(self, body: bytes, sent: Sent) -> tuple[bytes, Tokens]:  # noqa: ARG002  # as of every codec
        """Raises `UnreadableAnswer` for what is neither a list of models nor one of them."""
        try:
            document = msgspec.json.decode(body)
            if "data" in document or "models" in document:
                entries = document["data"] if "data" in document else document["models"]
                found = model_list(self._client, [model_entry(self._client, _told(one)) for one in entries])
            else:
                found = model_entry(self._client, _told(document))
        except (ValueError, RecursionError, TypeError, KeyError):
            raise UnreadableAnswer("the upstream's answer is no list of models") from None
        return encode(found), Tokens()

    def error(self, status: int, body: bytes, request_id: str) -> tuple[int, bytes]:
        found = read_fault(body, status)
        assert found is not None  # with a status there is always one
        if self._client == "anthropic":
            return messages_error(found, request_id)
        return gemini_error(found) if self._client == "gemini" else openai_error(found)

    def stream(self, sent: Sent, request_id: str) -> StreamTranslator:
        raise NotImplementedError  # models are never asked for in events


def _told(entry: dict[str, Any]) -> dict[str, Any]:
    """A model as Anthropic or OpenAI would tell of it; Gemini's has its name in a path."""
    if "id" in entry or not isinstance(name := entry["name"], str):
        return entry
    return {"id": name.removeprefix("models/"), "display_name": entry.get("displayName"), "owned_by": "google"}


def _seconds(date: object) -> int:
    try:
        return max(int(datetime.fromisoformat(str(date)).timestamp()), 0)
    except (ValueError, OverflowError):
        return 0
