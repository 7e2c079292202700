import json
import re
from collections.abc import Sequence
from functools import lru_cache
from typing import Any, Final

from msgspec import Struct
from msgspec.structs import force_setattr

from tokenferry.errors import UsageError
from tokenferry.stores import ACCOUNT_NAME

_LONGEST: Final = 128
_PATTERN: Final = re.compile(rf"[!-~]{{1,{_LONGEST}}}")
_MOST: Final = 64
_LISTS: Final = ("models", "providers", "accounts")


class Rights(Struct, frozen=True):
    """What a client key may be used for. An empty list allows everything of its kind."""

    models: tuple[str, ...] = ()
    """Model names as clients write them, case-sensitive; `*` matches any characters, `?` one."""
    providers: tuple[str, ...] = ()
    accounts: tuple[str, ...] = ()
    pin: str | None = None
    """The only account that serves this key, whatever the routes say."""
    is_everything: bool = False
    """Whether nothing is limited; computed from the other fields."""

    def __post_init__(self) -> None:
        is_everything = not (self.models or self.providers or self.accounts or self.pin)
        force_setattr(self, "is_everything", is_everything)

    @property
    def words(self) -> str:
        """All rights in one cell of a table; a dash if nothing is limited."""
        parts = [f"{name}={'|'.join(names)}" for name in _LISTS if (names := getattr(self, name))]
        return ",".join([*parts, *([] if self.pin is None else [f"pin={self.pin}"])]) or "-"

    def allows_model(self, name: str | None) -> bool:
        """Tell whether this model name may be requested; None is a request without a model."""
        return not self.models or (name is not None and _pattern(self.models).fullmatch(name) is not None)

    def allows_provider(self, name: str) -> bool:
        return not self.providers or name in self.providers

    def names_account(self, name: str) -> bool:
        """Tell whether the holder of the key may be served by this account, and see its name."""
        return (self.pin is None or name == self.pin) and (not self.accounts or name in self.accounts)

    def allows_account(self, name: str, provider: str) -> bool:
        """Tell whether an account of this provider may serve the holder of the key."""
        return self.names_account(name) and self.allows_provider(provider)


EVERYTHING: Final = Rights()


def read_rights(text: str) -> Rights:
    """Read rights as the table stores them. Raises `ValueError` for an unknown right, since it may limit the key."""
    if text == "{}":
        return EVERYTHING
    stored = json.loads(text)
    if not isinstance(stored, dict) or not stored.keys() <= {*_LISTS, "pin"}:
        raise ValueError("unknown rights")
    lists = {name: stored.get(name, []) for name in _LISTS}
    pin = stored.get("pin")
    if not all(isinstance(one, list) and all(isinstance(name, str) for name in one) for one in lists.values()):
        raise ValueError("no lists of names")
    if pin is not None and not (isinstance(pin, str) and pin):
        raise ValueError("no name")
    models, providers, accounts = (tuple(lists[name]) for name in _LISTS)
    rights = Rights(models, providers, accounts, pin)
    try:
        write_rights(rights)
    except UsageError as fault:
        raise ValueError(str(fault)) from None
    return rights


def write_rights(rights: Rights) -> str:
    """Give rights as the table stores them. Raises `UsageError` for invalid ones."""
    for pattern in rights.models:
        if not _PATTERN.fullmatch(pattern):
            raise UsageError(
                f"{pattern[:80]!r} can't be a model's name: use 1 to 128 printable characters without blanks, "
                "with * for any characters and ? for one"
            )
    for name in (*rights.accounts, *filter(None, [rights.pin])):
        if not ACCOUNT_NAME.fullmatch(name):
            raise UsageError(f"{name[:80]!r} can't be an account's name")
    for name in rights.providers:
        if not (name.isprintable() and 0 < len(name) <= _LONGEST):
            raise UsageError(f"{name[:80]!r} can't be a provider's name")
    if rights.pin is not None and rights.accounts and rights.pin not in rights.accounts:
        raise UsageError(f"{rights.pin} can't be pinned, for it is not among the accounts allowed; allow it, too")
    lists: dict[str, tuple[str, ...]] = {name: getattr(rights, name) for name in _LISTS}
    if any(len(one) > _MOST for one in lists.values()):
        raise UsageError(f"a client key names {_MOST} models, providers and accounts at most")
    stored: dict[str, Any] = {name: one for name, one in lists.items() if one}
    return json.dumps(stored | ({"pin": rights.pin} if rights.pin is not None else {}))


@lru_cache(maxsize=1024)
def _pattern(models: Sequence[str]) -> re.Pattern[str]:
    """Give one expression for all patterns, which matches in linear time whatever the name is."""
    return re.compile("|".join(map(_glob, models)), re.DOTALL)


def _glob(pattern: str) -> str:
    first, *rest = [re.escape(part).replace(r"\?", ".") for part in pattern.split("*")]
    if not rest:
        return first
    *middle, last = rest
    # The earliest place of each middle part is as good as any later one, so there is no way back (atomic groups).
    return first + "".join(f"(?>.*?{part})" for part in middle if part) + f".*{last}"
