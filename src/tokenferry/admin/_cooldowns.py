"""`/api/cooldowns` and `/api/limits`: who is passed over, and how much of their limits accounts have used up."""

import time

from fastapi import APIRouter

from tokenferry.actions import ActionContext
from tokenferry.admin._key import Key
from tokenferry.admin._models import BucketInfo, CooldownInfo, Done, LimitInfo, WindowInfo, moment
from tokenferry.audit import note_change
from tokenferry.errors import UnknownAccount
from tokenferry.limits import Window
from tokenferry.state import Cooldown


def cooldown_routes(parts: ActionContext) -> APIRouter:
    routes = APIRouter(prefix="/api")

    @routes.get("/cooldowns", response_model_exclude_none=True)
    def cooldowns() -> list[CooldownInfo]:
        """List the cooldowns of this machine, whichever process noted them."""
        return cooldowns_of(parts)

    @routes.delete("/cooldowns/{name}")
    def end_cooldowns(key: Key, name: str) -> Done:
        """End those of an account (with its organization's), an organization or a provider."""
        state, now = parts.state, time.time()
        organizations = state.organizations.all()
        names = {name, organizations.get(name)}
        found = [one for one in state.cooldowns.list() if one.scope.name in names]
        broker = parts.broker
        if not found and name not in {*broker.book.names(), *broker.providers, *organizations.values()}:
            raise UnknownAccount(f"there is no account, organization or provider {name[:64]!r}; see: GET /api/accounts")
        ended = [one for one in found if not one.is_over(now)]
        for one in found:
            state.cooldowns.clear(one.scope, one.cause)
        for one in ended:
            scope = one.scope
            note_change(parts.home, "cooldown.clear", scope.name, kind=scope.kind, cause=one.cause, client=key.name)
        return Done(message=f"ended {len(ended)} cooldowns of {name}")

    @routes.get("/limits", response_model_exclude_none=True)
    def limits() -> list[LimitInfo]:
        """Tell how much of their limits accounts have used up, as far as this worker was told."""
        return limits_of(parts)

    return routes


def cooldowns_of(parts: ActionContext) -> list[CooldownInfo]:
    now = time.time()
    return [_cooldown(one) for one in parts.state.cooldowns.list() if not one.is_over(now)]


def limits_of(parts: ActionContext) -> list[LimitInfo]:
    told = ((account.name, parts.limits(account.name)) for account in parts.broker.book.listing().accounts)
    return [
        LimitInfo(
            account=name,
            windows=[_window(one) for one in state.windows],
            buckets=[
                BucketInfo(name=one.name, limit=_whole(one.limit), remaining=_whole(one.remaining))
                for one in state.buckets
            ],
        )
        for name, state in told
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
