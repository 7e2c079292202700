from collections.abc import Sequence
from datetime import datetime

from msgspec import Struct

from tokenferry.config import load
from tokenferry.errors import TokenferryError
from tokenferry.ledger import Period, Usage
from tokenferry.readiness import BudgetUse, budgets_now, key_word
from tokenferry.settings import Home
from tokenferry.state import ClientKey
from tokenferry.views._books import LedgerReader


class KeyUse(Struct, frozen=True):
    """A client key, and what is used with it."""

    key: ClientKey
    today: Usage
    """Since midnight, by this machine's clock."""
    budgets: tuple[BudgetUse, ...] = ()
    """Those of its own, and those of `[[budgets]]` that are for it alone."""

    def word(self, now: float) -> str:
        """The key's state as people are shown it; `now` in seconds since 1970 UTC."""
        return key_word(self.key, self.budgets, now)


def key_uses(home: Home, keys: Sequence[ClientKey], books: LedgerReader, *, now: float) -> list[KeyUse]:
    """Look at what each key used; `now` in seconds since 1970 UTC. What can't be read counts as nothing."""
    used: dict[str, Usage] = {}
    budgets: list[BudgetUse] = []
    midnight = datetime.fromtimestamp(now).replace(hour=0, minute=0, second=0, microsecond=0)  # noqa: DTZ006  # this machine's day is meant
    try:
        if (usage := books.usage()) is not None:
            today = Period("", int(midnight.timestamp() * 1000), int(now * 1000) + 1)
            used = {row.group[0]: row.usage for row in usage.rows([today], ("key",))}
        live = [key for key in keys if key.is_live(now) and key.role == "client"]
        budgets = budgets_now(home, load(home.config, statement=home.statement), live, now=now) if live else []
    except TokenferryError:  # which the first page tells
        pass
    return [
        KeyUse(key, used.get(key.name, Usage()), tuple(one for one in budgets if one.key == key.name)) for key in keys
    ]
