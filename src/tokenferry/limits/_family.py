import re
from typing import Final

_WORDS: Final = re.compile(r"[a-z]+")
_FAMILY_WORDS: Final = 2
_LONGEST_FAMILY: Final = 48

OTHER: Final = "other"
"""The family of unknown models, and of all beyond the number of families that are counted separately."""


def model_family(model: str) -> str:
    """Give the family of a model: `claude-sonnet` for `claude-3-5-sonnet-20241022`."""
    name = model.lower()
    at = name.rfind("claude")  # clouds prepend their region and the vendor
    words = [word for word in _WORDS.findall(name, max(at, 0)) if word not in {"latest", "v"}]
    return "-".join(words[:_FAMILY_WORDS])[:_LONGEST_FAMILY] or OTHER
