from collections.abc import Mapping
from types import MappingProxyType
from typing import Final, Literal

from msgspec import Struct, field
from msgspec.structs import replace

from tokenferry.accounts._login import without_identity
from tokenferry.credentials import epoch_seconds
from tokenferry.errors import UsageError
from tokenferry.stores import MOST_LABELS, Account, check_label

_MOST: Final = 1_000_000
_RESERVED: Final = frozenset({"config_dir", "profile", "base_url"})
"""Labels that locate the login of an attached account."""


class AccountChanges(Struct, frozen=True):
    """What to change of an account besides its credential; None leaves it as it is."""

    priority: int | None = None
    """Lower serves first."""
    labels: Mapping[str, str | None] = field(default_factory=lambda: MappingProxyType({}))
    """A label of None is removed."""
    paused: bool | None = None
    paused_until: int | None = None
    """When a pause ends, in seconds since 1970 UTC; None: until it is resumed."""
    max_age: int | Literal["none"] | None = None
    """The maximum age of its API key or setup token, in seconds."""

    def check(self, now: float) -> None:
        """Raise `UsageError` for an invalid priority, label or end, and for labels that tokenferry reserves.

        `now` is in seconds since 1970 UTC.
        """
        if self.paused_until is not None and not (self.paused and now < epoch_seconds(self.paused_until)):
            raise UsageError("only a pause has an end, and it must be in the future; give a later time")
        if self.priority is not None and abs(self.priority) > _MOST:
            raise UsageError(f"a priority is a number from -{_MOST} to {_MOST}, and lower serves first")
        for name, value in self.labels.items():
            check_label(name, value or "")
            if name in _RESERVED or not without_identity({name: ""}):
                raise UsageError(f"label {name} is reserved for the place and owner of the login; use another name")

    def applied(self, account: Account) -> Account:
        """The account with these changes. Raises `UsageError` for too many labels."""
        labels = {name: value for name, value in {**account.labels, **self.labels}.items() if value is not None}
        if len(labels) > max(MOST_LABELS, len(account.labels)):
            raise UsageError(f"an account has {MOST_LABELS} labels at most")
        return replace(
            account,
            priority=account.priority if self.priority is None else self.priority,
            labels=MappingProxyType(labels),
            paused=account.paused if self.paused is None else self.paused,
            paused_until=account.paused_until if self.paused is None else self.paused_until,
            max_age=account.max_age if self.max_age is None else None if self.max_age == "none" else self.max_age,
        )
