import time
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any, Final

from msgspec import Struct
from msgspec.structs import replace

from tokenferry.config import Config
from tokenferry.databases import has_ledger, has_state, open_ledger, open_state
from tokenferry.readiness._explanation import RouteExplanation
from tokenferry.settings import Home
from tokenferry.state import ClientKey
from tokenferry.units import span

if TYPE_CHECKING:
    from tokenferry.budgets import Counter

_USED_UP: Final = 429


class BudgetUse(Struct, frozen=True):
    """How much of a budget is used in its present period, according to the ledger."""

    counter: "Counter"
    key: str = ""
    """The name of the only key that it counts; empty if it counts several."""

    @property
    def subject(self) -> str:
        return self.counter.budget.whose(self.key)

    @property
    def refuses(self) -> bool:
        """Whether requests are refused now."""
        return self.counter.is_used_up and self.counter.budget.settings.mode == "refuse"

    @property
    def key_id(self) -> str:
        """The id of the client key that it is stored with; empty for one of `[[budgets]]`."""
        budget = self.counter.budget
        return budget.name if budget.kind == "key" and self.key and budget.name != self.key else ""

    def sentence(self, now: float) -> str:
        """In a line; `now` is in seconds since 1970 UTC."""
        counter, limit = self.counter, self.counter.budget.limit
        reset = "" if counter.reset is None else f", resets in {span(counter.reset - now)}"
        warns = ", warns only" if counter.budget.settings.mode == "warn" else ""
        used = limit.amount_text(counter.used)
        return f"{self.subject}: {used} of {limit.sentence} used ({counter.percent}%{reset}{warns})"

    def to_json(self) -> dict[str, Any]:
        """Dollars or tokens, as `unit` says; times in seconds since 1970 UTC."""
        counter, limit = self.counter, self.counter.budget.limit
        scale = 1e6 if limit.unit == "usd" else 1
        return {
            "subject": counter.budget.settings.subject,
            "key": self.key or None,
            "limit": limit.amount / scale,
            "used": counter.used / scale,
            "unit": limit.unit,
            "period": limit.period,
            "mode": counter.budget.settings.mode,
            "percent": counter.percent,
            "starts_at": counter.key.start // 1000,
            "resets_at": counter.reset,
        }


def key_word(key: ClientKey, uses: Sequence[BudgetUse], now: float) -> str:
    """Return a client key's state for people: `used up` if one of its budgets is. `uses` are its budgets."""
    state = key.state(now)
    return "used up" if state == "live" and any(one.refuses for one in uses) else state


def within_budgets(found: RouteExplanation, uses: Sequence[BudgetUse], now: float) -> RouteExplanation:
    """Add a client key's budgets to the explanation, and the refusal if one is used up."""
    shown = replace(found, budgets=tuple(one.sentence(now) for one in uses))
    used_up = next((one for one in uses if one.refuses), None)
    if used_up is None or found.refused:
        return shown
    return replace(shown, status=_USED_UP, refused=f"{used_up.counter.budget.title(used_up.key)} is used up")


def budgets_now(
    home: Home, config: Config, keys: Sequence[ClientKey] | None = None, *, now: float | None = None
) -> list[BudgetUse]:
    """Return every budget in force, the most used first; only those of `keys`, if given.

    `now` is in seconds since 1970 UTC. Raises `StorageFailed`, `CorruptFile`, `UnsafeFile`.
    """
    now = time.time() if now is None else now
    known: list[ClientKey] = []
    if has_state(home):
        with open_state(home) as state:
            known = state.keys.list()
    live = [key for key in known if key.is_live(now) and key.role == "client"] if keys is None else keys
    if not (config.budgets or any(key.budgets for key in live)):
        return []
    from tokenferry.budgets import counters_at  # noqa: PLC0415  # few homes have a budget

    counters = counters_at(config.budgets, live, now, every_pool=keys is None)
    if counters and has_ledger(home):
        from tokenferry.ledger import UsageReport, spent_of  # noqa: PLC0415  # few homes have a budget

        with open_ledger(home) as ledger:
            spent = spent_of(UsageReport(ledger), counters, {key.id: key for key in known})
        for counter, amount in zip(counters, spent, strict=True):
            counter.spent = amount
            counter.look()
    names = {key.id: key.name for key in known}
    found = [BudgetUse(one, names.get(one.key_id or one.budget.name, "")) for one in counters]
    return sorted(found, key=lambda one: -one.counter.percent)
