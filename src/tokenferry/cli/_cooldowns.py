"""How cooldowns are told."""

from collections.abc import Mapping
from typing import Any, Final

from tokenferry.cli._output import moment, span
from tokenferry.cli._table import Cell, Column, time_cell
from tokenferry.settings import Home
from tokenferry.state import Cooldown, State


def at_work(home: Home, now: float) -> tuple[list[Cooldown], Mapping[str, str]]:
    """Those that hold at `now`, in seconds since 1970 UTC, and the accounts' organizations. Makes no file.

    Raises `StorageFailed`, `CorruptFile`, `UnsafeFile`.
    """
    if not home.state.exists():
        return [], {}
    with State(home.state) as state:
        return [one for one in state.cooldowns.list() if not one.is_over(now)], state.organizations.all()


def sentence(one: Cooldown, organizations: Mapping[str, str], now: float) -> str:
    """One cooldown in a line: who, why, and until when."""
    scope = one.scope
    members = [name for name, organization in organizations.items() if organization == scope.name]
    whose = f" (accounts {', '.join(members)})" if scope.kind == "organization" and members else ""
    why = one.evidence.rstrip(".") or one.cause
    end = "its end is not known" if one.until is None else ends(one, now)
    return f"{scope.kind} {scope.name}{whose}{models(one)}: {why}; {end}"


def ends(one: Cooldown, now: float) -> str:
    """Until when, as a part of a sentence."""
    return "with no known end" if one.until is None else f"until {_until(one, now)}"


def models(one: Cooldown) -> str:
    """Which models it is about, as the end of a sentence."""
    return f", models of {one.scope.family}" if one.scope.family else ""


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
        Cell(_until(one, now), "warning", None if one.until is None else _left(one, now)),
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


def _until(one: Cooldown, now: float) -> str:
    if one.until is None:
        return "not known"
    return f"{moment(one.until)} ({_left(one, now)})"


def _left(one: Cooldown, now: float) -> str:
    assert one.until is not None
    return "over" if one.is_over(now) else span(one.until - now)
