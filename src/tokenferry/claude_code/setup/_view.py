"""A change of a settings file as it may be shown: what could be a secret stands there as its fingerprint."""

import difflib
import json
import re
from collections.abc import Collection
from typing import Final

from tokenferry.claude_code.precedence import is_ours, plain_url
from tokenferry.claude_code.setup._text import JsonText, Keys
from tokenferry.secret import fingerprint

# In names of settings, and in the text of a value.
_TELLING: Final = re.compile(r"token|key|secret|passw|auth|credential|header|cookie", re.IGNORECASE)
_OPAQUE: Final = re.compile(r"(?=[^\s/]*[0-9])(?=[^\s/]*[A-Za-z])[A-Za-z0-9+_=.~-]{24,}|sk-[A-Za-z0-9-]{6,}")
_CONTEXT: Final = 2


def shown_change(before: str | None, after: str | None, name: str, ours: Collection[str]) -> list[str]:
    """A unified diff; values among `ours` are shown as they are."""
    old, new = ([] if text is None else _masked(text, ours).splitlines() for text in (before, after))
    return list(difflib.unified_diff(old, new, f"{name} (present)", f"{name} (new)", n=_CONTEXT, lineterm=""))


def _masked(text: str, ours: Collection[str]) -> str:
    parts: list[str] = []
    place = 0
    for keys, start, end in JsonText(text).strings() if text.strip() else ():
        value = str(json.loads(text[start:end]))
        shown = value if value in ours else _shown(keys, value)
        if shown != value:
            parts += (text[place:start], json.dumps(shown))
            place = end
    return "".join((*parts, text[place:]))


def _shown(keys: Keys, value: str) -> str:
    if keys[-1] == "ANTHROPIC_BASE_URL":
        return plain_url(value)
    if keys == ("apiKeyHelper",) and is_ours(value):
        return value
    may_be_secret = keys[0] == "env" or any(_TELLING.search(key) for key in keys) or _OPAQUE.search(value)
    return f"[fingerprint {fingerprint(value)}]" if may_be_secret and value else value
