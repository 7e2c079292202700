from collections.abc import Sequence
from typing import TYPE_CHECKING

from tokenferry.providers import Table
from tokenferry.settings import BudgetSettings

if TYPE_CHECKING:
    from tokenferry.budgets import Budget


def read_budgets(tables: Sequence[Table]) -> "tuple[Budget, ...]":
    """Read `[[budgets]]`. Two of one subject that differ in their amount alone are a fault."""
    if not tables:
        return ()
    from tokenferry.budgets import Budget  # noqa: PLC0415  # few homes have a budget

    found: dict[str, Budget] = {}
    for table in tables:
        settings = table.read_whole(BudgetSettings())
        if "limit" not in table:
            table.problem("limit", "is missing")
            continue
        try:
            budget = Budget.of(settings)
        except ValueError as fault:
            key, _, must = str(fault).partition(" ")
            table.problem(key, must)
            continue
        if budget.identity in found:
            table.problem("limit", f"is a second one for {settings.subject} a {budget.limit.period}; keep one of them")
        found[budget.identity] = budget
    return tuple(found.values())
