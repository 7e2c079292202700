from collections import OrderedDict
from collections.abc import Set as AbstractSet
from typing import Final, Literal, TypeAlias

Subject: TypeAlias = tuple[Literal["model", "route"], str]
"""What an account refused: a model, or a route beside messages such as `/v1/models`."""

_SECONDS: Final = 300.0
_MOST: Final = 1000
_NONE: Final[AbstractSet[str]] = frozenset()


class RecentRefusals(OrderedDict[Subject, dict[str, float]]):
    """Accounts that come last for one model or one route, for 5 minutes after they refused it. They are in no cooldown.

    It maps what was refused to when that ends, by account. Clients name models and paths as they like, so only the
    latest `most` of these are remembered.
    """

    def __init__(self, *, most: int = _MOST) -> None:
        super().__init__()
        self._most = most

    def put(self, account: str, subject: Subject, at: float) -> None:
        """`at` is in seconds of a clock that doesn't jump."""
        self.setdefault(subject, {})[account] = at + _SECONDS
        self.move_to_end(subject)
        if len(self) > self._most:
            self.popitem(last=False)

    def accounts(self, subject: Subject, at: float) -> AbstractSet[str]:
        """Those that come last for it now."""
        until = self.get(subject)
        if until is None:
            return _NONE
        names = frozenset(name for name, end in until.items() if end > at)
        if not names:
            del self[subject]
        return names

    def drop(self, account: str, subject: Subject) -> None:
        """It answered this after all."""
        until = self.get(subject)
        if until is not None and until.pop(account, None) is not None and not until:
            del self[subject]
