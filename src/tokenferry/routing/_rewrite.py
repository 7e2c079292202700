from collections.abc import Mapping
from typing import Final, TypeAlias

import msgspec

from tokenferry.routing._scan import BodyFacts

Pieces: TypeAlias = list[bytes | memoryview]


_SPACE: Final = b" \t\r\n"


def with_members(body: bytes, members: Mapping[str, object]) -> tuple[bytes, slice | None]:
    """Add members to the end of a JSON object, and give their position. Any other body stays unchanged.

    The members hold what the request's path says.
    """
    text = body.rstrip(_SPACE)
    if not text.endswith(b"}"):
        return body, None
    before = text[:-1]
    comma = b"" if before.rstrip(_SPACE).endswith(b"{") else b","
    added = comma + msgspec.json.encode(members)[1:-1]
    return b"%b%b%b" % (before, added, body[len(before) :]), slice(len(before), len(before) + len(added))


def rewrite(facts: BodyFacts, model: str | None, *, without_tag: bool = False, member: bytes | None = None) -> Pieces:
    """Give the body with another model, and without the sub-agent's tag if asked; all other bytes stay.

    `member` replaces the whole member `model`. Unchanged parts are views of the body, not copies.
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
    """Give the start of the key `model`. Even if escaped, it contains no quote."""
    end = facts.body.rindex(b'"', 0, facts.body.rindex(b":", 0, facts.model_at[0]))
    return facts.body.rindex(b'"', 0, end)
