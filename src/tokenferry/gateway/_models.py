"""Which model a request asks for, and what it is called where names must stay few."""

import json
import re
from collections.abc import Sequence
from typing import Final

from tokenferry.gateway._answers import Refusal
from tokenferry.limits import OTHER, model_family

_LIMIT: Final = 4 * 1024 * 1024
_KEY: Final = b'"model"'
_VALUE: Final = re.compile(rb'\s*:\s*"(?:([^"\\]{1,256})")?')
_ESCAPED: Final = b"\\u006"  # of every letter of the key, in whichever case its last digit is
_MOST_FAMILIES: Final = 32


def requested_model(chunks: Sequence[bytes]) -> str | None:
    """The model that a request's body names; None where it is none, or no JSON, or larger than 4 MiB.

    Raises `Refusal` (400) for a body that names two: which one counts depends on who reads it. Most bodies hold the key
    once with a text as its value. Only others, with one in a tool's input perhaps, or with escapes, are parsed.
    """
    if sum(map(len, chunks)) > _LIMIT:
        return None
    body = chunks[0] if len(chunks) == 1 else b"".join(chunks)
    at = body.find(_KEY)
    if (b"\\" in body and _ESCAPED in body) or (at >= 0 and body.find(_KEY, at + 1) >= 0):
        return _parsed(body)
    if at < 0:
        return None
    found = _VALUE.match(body, at + len(_KEY))
    if found is None:
        return None
    return str(found[1], "utf-8", "replace") if found[1] else _parsed(body)


def _parsed(body: bytes) -> str | None:
    try:
        document = json.loads(body, object_pairs_hook=tuple)
    except (ValueError, RecursionError):
        return None
    if not isinstance(document, tuple):
        return None
    models = [value for name, value in document if name == "model"]
    if len(models) > 1:
        message = 'the request names "model" twice, and who reads it may take either; name it once'
        raise Refusal(400, "invalid_request_error", message, cause="two_models")
    return models[0] if models and isinstance(models[0], str) else None


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
        found = model_family(model)
        if found not in self._known:
            if not is_served or len(self._known) >= _MOST_FAMILIES:
                return OTHER
            self._known.add(found)
        if is_served and len(self._names) < _MOST_FAMILIES * _MOST_FAMILIES:
            self._names[model] = found
        return found
