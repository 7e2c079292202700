"""Which model a request asks for, and what it is called where names must stay few."""

import json
import re
from collections.abc import Sequence
from typing import Final

_SEARCHED: Final = 4 * 1024 * 1024
_PARSED: Final = 1024 * 1024
_MODEL: Final = re.compile(rb'"model"\s*:\s*"([^"\\]{1,256})"')
_WORDS: Final = re.compile(r"[a-z]+")
_FAMILY_WORDS: Final = 2
_MOST_FAMILIES: Final = 32
_LONGEST_FAMILY: Final = 48

OTHER: Final = "other"
"""The family of models that nobody knows, or that came too late to be told apart."""


def requested_model(chunks: Sequence[bytes]) -> str | None:
    """The model that a request's body names, for telling and counting alone; None where that isn't plain.

    Most bodies hold the key once with a text as its value. Only where others do, in a tool's input perhaps, the whole
    body is parsed, if it is no larger than 1 MiB.
    """
    size = sum(map(len, chunks))
    if size > _SEARCHED:
        return None
    body = chunks[0] if len(chunks) == 1 else b"".join(chunks)
    found = _MODEL.findall(body)
    if len(found) == 1:
        return str(found[0], "utf-8", "replace")
    return _parsed(body) if found and size <= _PARSED else None


def _parsed(body: bytes) -> str | None:
    try:
        document = json.loads(body)
    except (ValueError, RecursionError):
        return None
    model = document.get("model") if isinstance(document, dict) else None
    return model if isinstance(model, str) else None


def family(model: str) -> str:
    """What releases of one model have in common: `claude-sonnet` of `claude-3-5-sonnet-20241022`."""
    name = model.lower()
    at = name.rfind("claude")  # clouds put their region and the vendor before it
    words = [word for word in _WORDS.findall(name, max(at, 0)) if word not in {"latest", "v"}]
    return "-".join(words[:_FAMILY_WORDS])[:_LONGEST_FAMILY] or OTHER


class Families:
    """The families there are: a bounded number, of models that an upstream has served."""

    def __init__(self) -> None:
        self._names: dict[str, str] = {}
        self._known: set[str] = set()

    def of(self, model: str | None, *, is_served: bool) -> str:
        """Give the model's family, or `other`. A name that no upstream has served yet takes no place."""
        if model is None:
            return ""
        known = self._names.get(model)
        if known is not None:
            return known
        found = family(model)
        if found not in self._known:
            if not is_served or len(self._known) >= _MOST_FAMILIES:
                return OTHER
            self._known.add(found)
        if is_served and len(self._names) < _MOST_FAMILIES * _MOST_FAMILIES:
            self._names[model] = found
        return found
