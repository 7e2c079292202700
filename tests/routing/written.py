"""JSON written in many ways: any order of keys, any blanks, any way to escape."""

import json
from typing import Any

from hypothesis import strategies as st

BLANKS = st.text(" \t\r\n", max_size=3)
SCALARS = (
    st.none()
    | st.booleans()
    | st.integers(-(2**63), 2**63)
    | st.floats(allow_nan=False, allow_infinity=False)
    | st.sampled_from(["model", '"model"', '"model":"x"', "\\", "ä⛴", "\u2028", "stream", "system"])
    | st.text(st.characters(exclude_categories=["Cs"]), max_size=20)
)
KEYS = st.sampled_from(["model", "messages", "stream", "a", "mode", "models", "m\\odel", 'x"y', "ä"]) | st.text(
    st.characters(exclude_categories=["Cs"]), max_size=5
)
NESTED = st.recursive(
    SCALARS, lambda inner: st.lists(inner, max_size=3) | st.dictionaries(KEYS, inner, max_size=3), max_leaves=8
)


@st.composite
def texts(draw: st.DrawFn, value: str) -> str:
    """One JSON text of a string: each character as it is or escaped, in either case of the digits."""
    written = ['"']
    for character in value:
        how = draw(st.sampled_from(("plain", "plain", "plain", "short", "lower", "upper")))
        units = [
            character.encode("utf-16-be")[place : place + 2]
            for place in range(0, len(character.encode("utf-16-be")), 2)
        ]
        code = [int.from_bytes(unit, "big") for unit in units]
        if how == "lower":
            written.extend(f"\\u{unit:04x}" for unit in code)
        elif how == "upper":
            written.extend(f"\\u{unit:04X}" for unit in code)
        elif how == "short" and character == "/":
            written.append("\\/")
        else:
            written.append(json.dumps(character, ensure_ascii=False)[1:-1])
    return "".join([*written, '"'])


@st.composite
def written(draw: st.DrawFn, value: Any) -> str:
    """One JSON text of a value. A list of pairs stands for an object, which may have a key twice."""

    def blank() -> str:
        return draw(BLANKS)

    if isinstance(value, dict):
        value = Pairs(value.items())
    if isinstance(value, Pairs):
        members = [f"{blank()}{draw(texts(key))}{blank()}:{blank()}{draw(written(one))}{blank()}" for key, one in value]
        return "{" + (",".join(members) or blank()) + "}"
    if isinstance(value, list):
        return "[" + (",".join(f"{blank()}{draw(written(one))}{blank()}" for one in value) or blank()) + "]"
    return draw(texts(value)) if isinstance(value, str) else json.dumps(value)


class Pairs(list[tuple[str, Any]]):
    """An object's members in their order."""


def read(body: bytes) -> Any:
    """What the standard library makes of it; objects as `Pairs`."""
    return json.loads(body, object_pairs_hook=Pairs)
