"""The operator's dated statement about their Claude subscription: made and withdrawn."""

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

    Running gateways follow within two seconds. Raises `ConfigError` if config.toml sets the policy, `PolicyRefused` if
    another person's key would be served, and what writing raises.
    """
    _check_file(context)
    context.broker.check_keys(context.keys.list(), PolicySettings("own-use"))
    context.broker.record_default_provider(environment=True)
    state(context.home.statement, time.time())
    note_change(context.home, "policy.own", "policy", client=by.name or None, by="dashboard")
    return Done(message="recorded: the policy is own-use")


def withdraw_own_use(context: ActionContext, by: Actor) -> Done:
    """Withdraw the statement: subscriptions are for Claude Code alone again. Raises as `state_own_use` does."""
    _check_file(context)
    context.broker.record_default_provider(environment=True)
    withdraw(context.home.statement)
    note_change(context.home, "policy.off", "policy", client=by.name or None, by="dashboard")
    return Done(message="withdrawn: the policy is claude-code-only")


def _check_file(context: ActionContext) -> None:
    policy = context.broker.policy
    if policy.source == "config.toml":
        raise ConfigError(
            f'{context.home.config} says subscriptions = "{policy.subscriptions}" under [policy], which overrides '
            "the statement; change it there"
        )
