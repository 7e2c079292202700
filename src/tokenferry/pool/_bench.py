"""From what an answer means to what is passed over, and until when."""

from random import Random
from typing import Final

from tokenferry.limits import Classification, cooldown_until, model_family
from tokenferry.pool._account import PoolAccount
from tokenferry.state import Cooldown, Scope

SOURCE: Final = "answer"
_OF_AN_ACCOUNT: Final = frozenset({"account", "credential", "organization"})


def scope_of(verdict: Classification, member: PoolAccount, organization: str, model: str) -> Scope | None:
    """What is passed over for it; None for nothing. Where no organization is known, the account stands for it."""
    if not benches(verdict):
        return None
    family = {"all": "", "family": model_family(model), "model": model}[verdict.models]
    match verdict.scope:
        case "account" | "credential":
            return Scope("account", member.name, family)
        case "organization" if organization and not member.bills_subscription:
            return Scope("organization", organization, family)
        case "organization":
            return Scope("account", member.name, family)
        case "provider":
            return Scope("provider", member.provider, family)
        case "request" | "transient":
            return None


def cooldown_of(
    verdict: Classification, scope: Scope, *, now: float, failures: int, rng: Random, evidence: str
) -> Cooldown:
    until = cooldown_until(verdict, now=now, failures=failures, rng=rng)
    return Cooldown(scope, verdict.cause, SOURCE, until, evidence, int(now))


def benches(verdict: Classification) -> bool:
    """Whether anything is passed over for it."""
    return verdict.hold not in {"none", "later"}


def is_about_an_account(verdict: Classification) -> bool:
    """Whether another account may be told something else."""
    return verdict.scope in _OF_AN_ACCOUNT
