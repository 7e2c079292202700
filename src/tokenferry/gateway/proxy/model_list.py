"""Lists the names of `[[models]]` for `GET /v1/models`: before the upstream's models, or alone."""

import json
from collections.abc import Callable, Sequence
from typing import Any, Final
from urllib.parse import parse_qs, unquote_to_bytes

from tokenferry.settings import ModelSettings
from tokenferry.wire import LIST_FIELDS, UNKNOWN_DATE, WireFormat, model_entry, model_list

_DEFAULT_LIMIT: Final = 20
_MOST: Final = 1000


class ModelList:
    """The mapped models, in the shape of one client API."""

    def __init__(self, models: Sequence[ModelSettings], client: WireFormat = "anthropic") -> None:
        self._client = client
        self._entries = [_entry(model, client) for model in models]
        self._by_name = {model.name.casefold(): entry for model, entry in zip(models, self._entries, strict=True)}

    def __bool__(self) -> bool:
        return bool(self._entries)

    def name(self, path: bytes) -> str:
        """Give NAME of `…/models/NAME`."""
        return unquote_to_bytes(path.partition(b"/models/")[2]).decode("utf-8", "replace")

    def one(self, path: bytes, allows: Callable[[str], bool]) -> bytes | None:
        """Give the answer for `…/models/NAME`; None if the model isn't mapped or not allowed."""
        entry = self._by_name.get(self.name(path).casefold())
        return None if entry is None or not allows(_id(entry)) else json.dumps(entry).encode()

    def alone(self, target: bytes, allows: Callable[[str], bool]) -> bytes:
        """Give the list of the allowed mapped models, in Anthropic's API one page of it."""
        entries = [entry for entry in self._entries if allows(_id(entry))]
        if self._client != "anthropic":
            return json.dumps(model_list(self._client, entries)).encode()
        limit, after = _page(target)
        places = [place for place, entry in enumerate(entries, 1) if entry["id"] == after]
        start = places[0] if places else 0
        page = model_list(self._client, entries[start : start + limit], has_more=len(entries) > start + limit)
        return json.dumps(page).encode()

    def merged(self, target: bytes, upstreams: bytes, allows: Callable[[str], bool]) -> bytes | None:
        """Give the upstream's list with the mapped models first, on the first page; None if it isn't a list of models.

        It has only allowed models. The cursors of a page stay the upstream's.
        """
        try:
            document = json.loads(upstreams)
            data = document[LIST_FIELDS[self._client]]
            theirs = [(_id(one), one) for one in data]
        except (ValueError, RecursionError, TypeError, KeyError):
            return None
        is_first = _is_first(target)
        mine = [entry for entry in self._entries if allows(_id(entry))] if is_first else []
        names = {*map(_id, mine)}
        rest = [one for name, one in theirs if name not in names and allows(name)]
        if not is_first and len(rest) == len(theirs):
            return upstreams
        shown = document[LIST_FIELDS[self._client]] = mine + rest
        if self._client != "anthropic":
            return json.dumps(document).encode()
        document["first_id"] = shown[0]["id"] if shown else None
        if rest or not document.get("has_more"):  # otherwise only the upstream's cursor leads to the next page
            document["last_id"] = shown[-1]["id"] if shown else None
        return json.dumps(document).encode()


def _id(entry: dict[str, Any]) -> str:
    """Give the name that clients use. Raises `TypeError` or `KeyError` for an upstream's entry without one."""
    name = entry["name"].removeprefix("models/") if "supportedGenerationMethods" in entry else entry["id"]
    if not isinstance(name, str):
        raise TypeError
    return name


def _entry(model: ModelSettings, client: WireFormat) -> dict[str, Any]:
    known = {"id": model.name, "display_name": model.display_name, "created_at": UNKNOWN_DATE}
    return model_entry(client, {**known, "owned_by": "tokenferry"})


def _query(target: bytes) -> dict[str, list[str]]:
    try:
        return parse_qs(target.partition(b"?")[2].decode("utf-8", "replace"), max_num_fields=20)
    except ValueError:
        return {}


def _page(target: bytes) -> tuple[int, str | None]:
    query = _query(target)
    given = query.get("limit", [""])[0]
    limit = int(given) if given.isascii() and given.isdigit() and len(given) < len("10000") else _DEFAULT_LIMIT
    return min(max(limit, 1), _MOST), query.get("after_id", [None])[0]


def _is_first(target: bytes) -> bool:
    return not _query(target).keys() & {"after_id", "before_id", "pageToken"}
