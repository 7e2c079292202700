"""Cooldowns, and how much of their limits accounts have used."""

import time

from tokenferry.actions._actor import Actor
from tokenferry.actions._context import ActionContext
from tokenferry.actions._models import BucketInfo, CooldownInfo, Done, LimitInfo, WindowInfo, moment
from tokenferry.audit import note_change
from tokenferry.errors import UnknownAccount
from tokenferry.limits import Window
from tokenferry.state import Cooldown


def end_cooldowns(context: ActionContext, by: Actor, name: str) -> Done:
    """End the cooldowns of an account (with its organization's), an organization or a provider."""
    return Done(message=f"ended {len(clear_cooldowns(context, by, name))} cooldowns of {name}")


def clear_cooldowns(context: ActionContext, by: Actor, name: str | None) -> list[Cooldown]:
    """End the cooldowns of a name, or all; return those still active. Raises `UnknownAccount` for an unknown name."""
    state, now = context.state, time.time()
    organizations = state.organizations.all()
    names = {name} if name is None else {name, organizations.get(name)}
    found = [one for one in state.cooldowns.list() if name is None or one.scope.name in names]
    if name is not None and not found:
        known = {*context.broker.book.names(), *context.broker.providers, *organizations.values()}
        if name not in known:
            raise UnknownAccount.among("account, organization or provider", name, known, "tokenferry account list")
    ended = [one for one in found if not one.is_over(now)]
    for one in found:
        state.cooldowns.clear(one.scope, one.cause)
    for one in ended:
        scope, client = one.scope, by.name or None
        note_change(context.home, "cooldown.clear", scope.name, kind=scope.kind, cause=one.cause, client=client)
    return ended


def list_cooldowns(context: ActionContext) -> list[CooldownInfo]:
    """List the cooldowns of this machine, of all its processes."""
    now = time.time()
    return [_cooldown(one) for one in context.state.cooldowns.list() if not one.is_over(now)]


def list_limits(context: ActionContext) -> list[LimitInfo]:
    """Report how much of their limits accounts have used, as far as this worker knows."""
    states = ((account.name, context.limits(account.name)) for account in context.broker.book.listing().accounts)
    return [
        LimitInfo(
            account=name,
            windows=[_window(one) for one in state.windows],
            buckets=[
                BucketInfo(name=one.name, limit=_whole(one.limit), remaining=_whole(one.remaining))
                for one in state.buckets
            ],
        )
        for name, state in states
        if state is not None
    ]


def _cooldown(one: Cooldown) -> CooldownInfo:
    return CooldownInfo(
        kind=one.scope.kind,
        name=one.scope.name,
        family=one.scope.family or None,
        cause=one.cause,
        source=one.source,
        until=_moment(one.until),
        evidence=one.evidence,
        noted_at=moment(one.noted_at) or "",
    )


def _window(one: Window) -> WindowInfo:
    return WindowInfo(name=one.name, utilization=one.utilization, reset=_moment(one.reset))


def _moment(seconds: float | None) -> str | None:
    return moment(_whole(seconds))


def _whole(number: float | None) -> int | None:
    return None if number is None else int(number)
