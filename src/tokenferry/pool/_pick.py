from collections.abc import Sequence
from typing import Final, NamedTuple, TypeAlias

from tokenferry.pool._member import Member
from tokenferry.pool._records import Block
from tokenferry.pool._view import View

_CHALLENGE: Final = "www-authenticate"

Headers: TypeAlias = Sequence[tuple[bytes, bytes]]
"""Header fields as they came over the wire."""


class Pick(NamedTuple):
    """A member that may serve, and why it is this one. `block` is what a probe is to find out about."""

    member: Member
    why: str
    view: View
    block: Block | None = None


def text_headers(headers: Headers) -> dict[str, str]:
    """As text, by name. An answer may challenge more than once (RFC 9110 11.6.1)."""
    fields = {name.decode("latin-1"): value.decode("latin-1") for name, value in headers}
    if _CHALLENGE in fields:
        told = (value.decode("latin-1") for name, value in headers if name == _CHALLENGE.encode())
        fields[_CHALLENGE] = ", ".join(told)
    return fields
