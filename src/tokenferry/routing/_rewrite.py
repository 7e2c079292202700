from collections.abc import Mapping
from typing import Final, TypeAlias

import msgspec

from tokenferry.routing._scan import BodyFacts

Pieces: TypeAlias = list[bytes | memoryview]


_SPACE: Final = b" \t\r\n"


def with_members(body: bytes, members: Mapping[str, object]) -> tuple[bytes, slice | None]:
    """A JSON object with more members at its end, and where they are; anything else as it is.

    So a request can say what its address says.
    """
    text = body.rstrip(_SPACE)
    if not text.endswith(b"}"):
        return body, None
    before = text[:-1]
    comma = b"" if before.rstrip(_SPACE).endswith(b"{") else b","
    added = comma + msgspec.json.encode(members)[1:-1]
    return b"%b%b%b" % (before, added, body[len(before) :]), slice(len(before), len(before) + len(added))


def rewrite(facts: BodyFacts, model: str | None, *, without_tag: bool = False, member: bytes | None = None) -> Pieces:
    """The body with another model's name, and without the sub-agent's tag if so wished; every other byte as it came.

    `member` takes the place of the whole member that names the model.

    What stays are views of the body, so nothing of it is copied.
    """
    edits: list[tuple[int, int, bytes]] = []
    if member is not None and facts.model is not None:
        edits.append((_key_of(facts), facts.model_at[1], member))
    elif model is not None and model != facts.model and facts.model is not None:
        edits.append((*facts.model_at, msgspec.json.encode(model)))
    if without_tag and facts.tag is not None:
        edits.extend((start, end, b"") for start, end in facts.tag.spans)
    if not edits:
        return [facts.body]
    edits.sort()
    view = memoryview(facts.body)
    pieces: Pieces = []
    place = 0
    for start, end, text in edits:
        pieces.append(view[place:start])
        if text:
            pieces.append(text)
        place = end
    pieces.append(view[place:])
    return pieces


def _key_of(facts: BodyFacts) -> int:
    """Where the key of the member that names the model begins. However it is escaped, there is no quote in it."""
    end = facts.body.rindex(b'"', 0, facts.body.rindex(b":", 0, facts.model_at[0]))
    return facts.body.rindex(b'"', 0, end)
