from collections import OrderedDict
from collections.abc import Set as AbstractSet
from typing import Final, Literal, TypeAlias

Subject: TypeAlias = tuple[Literal["model", "route"], str]
"""What an account refused: a model, or a side route such as `/v1/models`."""

_SECONDS: Final = 300.0
_MOST: Final = 1000
_NONE: Final[AbstractSet[str]] = frozenset()


class RecentRefusals(OrderedDict[Subject, dict[str, float]]):
    """Accounts that come last for a model or a route for 5 minutes after they refused it. They are not in a cooldown.

    It maps each subject to the ends by account. Clients may name any model and path, so only the `most` latest
    subjects are remembered.
    """

    def __init__(self, *, most: int = _MOST) -> None:
        super().__init__()
        self._most = most

    def put(self, account: str, subject: Subject, at: float) -> None:
        """Remember a refusal. `at` is in seconds of a monotonic clock."""
        self.setdefault(subject, {})[account] = at + _SECONDS
        self.move_to_end(subject)
        if len(self) > self._most:
            self.popitem(last=False)

    def accounts(self, subject: Subject, at: float) -> AbstractSet[str]:
        """Give the accounts that come last for it now."""
        until = self.get(subject)
        if until is None:
            return _NONE
        names = frozenset(name for name, end in until.items() if end > at)
        if not names:
            del self[subject]
        return names

    def drop(self, account: str, subject: Subject) -> None:
        """Forget the refusal of an account that has served it."""
        until = self.get(subject)
        if until is not None and until.pop(account, None) is not None and not until:
            del self[subject]
