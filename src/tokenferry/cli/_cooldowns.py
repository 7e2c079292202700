"""Cooldowns in `cooldown list`, for people and programs."""

from typing import Any, Final

from tokenferry.cli._table import Cell, Column, time_cell
from tokenferry.readiness import time_left, until
from tokenferry.state import Cooldown

COLUMNS: Final = (
    Column("kind"),
    Column("name"),
    Column("models", wide=True),
    Column("cause"),
    Column("until"),
    Column("noted", wide=True),
    Column("source", wide=True),
    Column("evidence", folds=True),
)


def cells(one: Cooldown, now: float) -> tuple[str, ...]:
    """A row of `cooldown list`."""
    scope = one.scope
    return (
        scope.kind,
        scope.name,
        scope.family or "all",
        one.cause,
        Cell(until(one, now), "warning", None if one.until is None else time_left(one, now)),
        time_cell(one.noted_at, now),
        one.source,
        one.evidence or "-",
    )


def to_json(one: Cooldown, now: float) -> dict[str, Any]:
    return {
        "kind": one.scope.kind,
        "name": one.scope.name,
        "family": one.scope.family or None,
        "cause": one.cause,
        "source": one.source,
        "until": one.until,
        "over": one.is_over(now),
        "evidence": one.evidence,
        "noted_at": one.noted_at,
    }
