from typing import Final

from tokenferry.limits import Classification
from tokenferry.pool._cooldowns import Key

_MOST: Final = 1000
_BY_THE_REQUEST: Final = frozenset({"forbidden", "not-allowed", "refused"})
_WITHOUT_AN_END: Final = frozenset({"back-off", "long"})
_CONFIRMED: Final[frozenset[str]] = frozenset()
"""Stands for client keys when no request is at fault, so that none may try."""
_OF_LIMITS: Final = frozenset({"rate-limit", "rejected", "usage-limit"})


def may_be_the_requests(error: Classification) -> bool:
    """Whether the request's own model, headers or body may be the cause of the refusal.

    That is possible for a refused credential, a 403, and a 429 that names neither a window nor a wait.
    """
    return error.cause in _BY_THE_REQUEST or (error.cause in _OF_LIMITS and error.hold in _WITHOUT_AN_END)


class UnconfirmedRefusals(dict[Key, frozenset[str]]):
    """The client keys whose own requests may have caused a refusal, by cooldown.

    The last account gets such a cooldown only after a second refusal in a row. Each other client key may then still
    try once, so that one key's requests never block the others.
    """

    def __init__(self, *, most: int = _MOST) -> None:
        super().__init__()
        self._most = most

    def note(self, key: Key, client: str) -> bool:
        """Record a refusal. Give whether it is the second without a good answer between."""
        known = self.pop(key, _CONFIRMED)
        self._put(key, known | {client})
        return bool(known)

    def may_try(self, key: Key, client: str) -> bool:
        """Whether the client may try the account once."""
        refused = self.get(key)
        if refused is None:
            return key[3] in _BY_THE_REQUEST
        return refused != _CONFIRMED and client not in refused

    def confirm(self, key: Key) -> None:
        """Record better evidence for the cooldown, so that no client may try before its end."""
        self.pop(key, None)
        if key[3] in _BY_THE_REQUEST:
            self._put(key, _CONFIRMED)

    def served(self, account: str, organization: str, families: tuple[str, ...]) -> None:
        """Forget the refusals of an account after a good answer for these families."""
        names = {account, organization}
        for key in [key for key in self if key[1] in names and key[2] in families]:
            del self[key]

    def _put(self, key: Key, clients: frozenset[str]) -> None:
        if len(self) >= self._most:
            del self[next(iter(self))]
        self[key] = clients
