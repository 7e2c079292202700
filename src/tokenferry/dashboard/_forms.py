"""Common code of forms: all faults are reported at once, each beside its field."""

from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from typing import Final

from tokenferry.budgets import SpendingLimit
from tokenferry.dashboard._visit import sentence
from tokenferry.errors import Conflict, InvalidFields, UnknownName, UsageError

BUDGET_ROWS: Final = 8
"""A key has at most one budget of each unit and period."""


class FieldFaults:
    """Collects the faults of a form's fields."""

    def __init__(self) -> None:
        self._found: dict[str, str] = {}

    @contextmanager
    def at(self, field: str) -> Iterator[None]:
        """Attribute errors in the block to this field; the first one counts."""
        try:
            yield
        except (Conflict, UnknownName, UsageError) as fault:
            self._found.setdefault(field, sentence(str(fault)))

    def check(self) -> None:
        """Raise `InvalidFields` if there is any fault."""
        if self._found:
            raise InvalidFields(self._found)


def read_budgets(form: Mapping[str, str], faults: FieldFaults) -> list[str]:
    """Read the budgets of the rows with an amount, as `20usd/day`."""
    found: dict[tuple[str, str], str] = {}
    for row in range(BUDGET_ROWS):
        if amount := form.get(f"amount_{row}", "").strip():
            with faults.at(f"amount_{row}"):
                limit = _limit(amount, form.get(f"unit_{row}", ""), form.get(f"period_{row}", ""))
                if (limit.unit, limit.period) in found:
                    raise UsageError(f"another budget is in {limit.unit} for the same period; give one of them")
                found[limit.unit, limit.period] = str(limit)
    return [*found.values()]


def _limit(amount: str, unit: str, period: str) -> SpendingLimit:
    try:
        return SpendingLimit.parse(f"{amount}{unit}/{period}")
    except ValueError:
        what = "a number of tokens such as 500k or 1.5M" if unit == "tokens" else "an amount such as 20 or 0.50"
        raise UsageError(f"{amount[:40]!r} can't be an amount; give {what}") from None


def budget_rows(form: Mapping[str, str], budgets: tuple[str, ...]) -> list[tuple[str, str, str]]:
    """Return amount, unit and period of each row: as typed, else of the present budgets, then an empty row."""
    if form:
        names = [(f"amount_{row}", f"unit_{row}", f"period_{row}") for row in range(BUDGET_ROWS)]
        typed = [(form.get(a, ""), form.get(u, "usd"), form.get(p, "day")) for a, u, p in names if form.get(a)]
    else:
        limits = [SpendingLimit.parse(text) for text in budgets]
        typed = [(str(one).partition(one.unit)[0], one.unit, one.period) for one in limits]
    return [*typed, ("", "usd", "month" if typed else "day")][:BUDGET_ROWS]
