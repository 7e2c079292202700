from collections.abc import Sequence
from typing import Final, NamedTuple, TypeAlias

from tokenferry.pool._account import PoolAccount
from tokenferry.pool._cooldowns import ActiveCooldown
from tokenferry.pool._view import Candidates

_CHALLENGE: Final = "www-authenticate"

Headers: TypeAlias = Sequence[tuple[bytes, bytes]]
"""Header fields as they came over the wire."""


class Selection(NamedTuple):
    """A member that may serve, and why it is this one. `block` is what a probe is to find out about."""

    member: PoolAccount
    why: str
    view: Candidates
    block: ActiveCooldown | None = None


def text_headers(headers: Headers) -> dict[str, str]:
    """As text, by name. An answer may challenge more than once (RFC 9110 11.6.1)."""
    fields = {name.decode("latin-1"): value.decode("latin-1") for name, value in headers}
    if _CHALLENGE in fields:
        told = (value.decode("latin-1") for name, value in headers if name == _CHALLENGE.encode())
        fields[_CHALLENGE] = ", ".join(told)
    return fields
