"""The operator's statement about their Claude subscription: made by a person, dated, and taken back."""

import time

from tokenferry.actions._actor import Actor
from tokenferry.actions._context import ActionContext
from tokenferry.actions._models import Done
from tokenferry.audit import note_change
from tokenferry.errors import ConfigError
from tokenferry.policy_statement import state, withdraw
from tokenferry.settings import PolicySettings


def state_own_use(context: ActionContext, by: Actor) -> Done:
    """Record that the subscription is the operator's alone, and that they have read the vendor's terms.

    Running gateways follow within two seconds. Raises `ConfigError` where config.toml rules, `PolicyRefused` where a
    key of somebody else's would be served, and what writing does.
    """
    _check_file(context)
    context.broker.check_keys(context.keys.list(), PolicySettings("own-use"))
    context.broker.record_default_provider(environment=True)
    state(context.home.statement, time.time())
    note_change(context.home, "policy.own", "policy", client=by.name or None, by="dashboard")
    return Done(message="recorded: the policy is own-use")


def withdraw_own_use(context: ActionContext, by: Actor) -> Done:
    """Take the statement back: subscriptions are for Claude Code alone again. Raises as `state_own_use` does."""
    _check_file(context)
    context.broker.record_default_provider(environment=True)
    withdraw(context.home.statement)
    note_change(context.home, "policy.off", "policy", client=by.name or None, by="dashboard")
    return Done(message="taken back: the policy is claude-code-only")


def _check_file(context: ActionContext) -> None:
    policy = context.broker.policy
    if policy.source == "config.toml":
        raise ConfigError(
            f'{context.home.config} says subscriptions = "{policy.subscriptions}" under [policy], which goes before '
            "any statement; change it there"
        )
