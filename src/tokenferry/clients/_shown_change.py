"""Shows a change of a settings file, with a fingerprint in place of each possible secret."""

import difflib
import json
import re
from collections.abc import Collection
from typing import Final

from tokenferry.claude_code.precedence import is_ours, plain_url
from tokenferry.clients._settings_text import Keys, SettingsText
from tokenferry.secret import fingerprint

# In names of settings, and in the text of a value.
_TELLING: Final = re.compile(r"token|key|secret|passw|auth|credential|header|cookie", re.IGNORECASE)
_OPAQUE: Final = re.compile(r"(?=[^\s/]*[0-9])(?=[^\s/]*[A-Za-z])[A-Za-z0-9+_=.~-]{24,}|sk-[A-Za-z0-9-]{6,}")
_ADDRESSES: Final = {"ANTHROPIC_BASE_URL", "GOOGLE_GEMINI_BASE_URL", "baseURL", "base_url"}
_REFERENCE: Final = re.compile(r"\{(?:env|file):[^{}]*\}")  # says where a secret is
_CONTEXT: Final = 2


def shown_change(
    before: SettingsText | None, after: SettingsText | None, name: str, ours: Collection[str]
) -> list[str]:
    """Give a unified diff in which a missing file is /dev/null; values among `ours` are shown unchanged."""
    old, new = ([] if text is None else masked(text, ours).splitlines() for text in (before, after))
    old_name, new_name = ("/dev/null" if text is None else name for text in (before, after))
    return list(difflib.unified_diff(old, new, old_name, new_name, n=_CONTEXT, lineterm=""))


def masked(settings: SettingsText, ours: Collection[str]) -> str:
    """Give the text with a fingerprint in place of each string that may be a secret."""
    parts: list[str] = []
    place = 0
    for keys, start, end, value in settings.strings():
        shown = value if value in ours else _shown(keys, value)
        if shown != value:
            parts += (settings.text[place:start], json.dumps(shown))
            place = end
    return "".join((*parts, settings.text[place:]))


def _shown(keys: Keys, value: str) -> str:
    if keys and keys[-1] in _ADDRESSES:
        return plain_url(value)
    if keys == ("apiKeyHelper",) and is_ours(value):
        return value
    is_telling = keys[:1] == ("env",) or any(_TELLING.search(key) for key in keys)
    may_be_secret = is_telling and not _REFERENCE.fullmatch(value)
    return f"[fingerprint {fingerprint(value)}]" if value and (may_be_secret or _OPAQUE.search(value)) else value
