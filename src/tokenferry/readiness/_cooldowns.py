"""Cooldowns in words."""

from collections.abc import Mapping

from tokenferry.databases import has_state, open_state
from tokenferry.settings import Home
from tokenferry.state import Cooldown
from tokenferry.units import moment, span


def active_cooldowns(home: Home, now: float) -> tuple[list[Cooldown], Mapping[str, str]]:
    """Return the cooldowns active at `now` (seconds since 1970 UTC), and the accounts' organizations. Creates no file.

    Raises `StorageFailed`, `CorruptFile`, `UnsafeFile`.
    """
    if not has_state(home):
        return [], {}
    with open_state(home) as state:
        return [one for one in state.cooldowns.list() if not one.is_over(now)], state.organizations.all()


def cooldown_sentence(one: Cooldown, organizations: Mapping[str, str], now: float) -> str:
    """Describe one cooldown in a line: scope, cause and end."""
    scope = one.scope
    members = [name for name, organization in organizations.items() if organization == scope.name]
    whose = f" (accounts {', '.join(members)})" if scope.kind == "organization" and members else ""
    why = one.evidence.rstrip(".") or one.cause
    end = "its end is not known" if one.until is None else ends(one, now)
    return f"{scope.kind} {scope.name}{whose}{models(one)}: {why}; {end}"


def ends(one: Cooldown, now: float) -> str:
    """Describe its end, as a part of a sentence."""
    return "with no known end" if one.until is None else f"until {until(one, now)}"


def models(one: Cooldown) -> str:
    """Name the models it is about, as the end of a sentence."""
    return f", models of {one.scope.family}" if one.scope.family else ""


def until(one: Cooldown, now: float) -> str:
    if one.until is None:
        return "not known"
    return f"{moment(one.until)} ({time_left(one, now)})"


def time_left(one: Cooldown, now: float) -> str:
    assert one.until is not None
    return "over" if one.is_over(now) else span(one.until - now)
