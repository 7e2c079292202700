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
    """A client key and its usage."""

    key: ClientKey
    today: Usage
    """Since midnight, by this machine's clock."""
    budgets: tuple[BudgetUse, ...] = ()
    """Its own budgets, and those of `[[budgets]]` for it alone."""

    def word(self, now: float) -> str:
        """Return the key's state for people; `now` in seconds since 1970 UTC."""
        return key_word(self.key, self.budgets, now)


def key_uses(home: Home, keys: Sequence[ClientKey], books: LedgerReader, *, now: float) -> list[KeyUse]:
    """Return the usage of each key; `now` in seconds since 1970 UTC. Unreadable data counts as none."""
    used: dict[str, Usage] = {}
    budgets: list[BudgetUse] = []
    midnight = datetime.fromtimestamp(now).replace(hour=0, minute=0, second=0, microsecond=0)  # noqa: DTZ006  # this machine's day is meant
    try:
        if (usage := books.usage()) is not None:
            today = Period("", int(midnight.timestamp() * 1000), int(now * 1000) + 1)
            used = {row.group[0]: row.usage for row in usage.rows([today], ("key",))}
        live = [key for key in keys if key.is_live(now) and key.role == "client"]
        budgets = budgets_now(home, load(home.config, statement=home.statement), live, now=now) if live else []
    except TokenferryError:  # reported on the first page
        pass
    return [
        KeyUse(key, used.get(key.name, Usage()), tuple(one for one in budgets if one.key == key.name)) for key in keys
    ]
