"""The owner of a client key, which decides whether a subscription may serve it."""

from tokenferry.broker import Broker, is_foreign
from tokenferry.cli._home import find
from tokenferry.databases import has_state, open_state
from tokenferry.settings import PolicySettings
from tokenferry.state import ClientKey


def refuse_foreign(*keys: ClientKey) -> None:
    """Raise `PolicyRefused` for another person's key that a subscription could serve under the present policy.

    The owner's keys need no look at the configuration, which may be broken.
    """
    if not any(map(is_foreign, keys)):
        return
    home, config = find()
    if config.policy.subscriptions == "own-use":
        Broker.from_home(home, config).check_keys(keys)


def refuse_own_with_foreign() -> None:
    """Raise `PolicyRefused` if another person's key exists, which the policy `own-use` forbids."""
    home, config = find()
    if has_state(home):
        with open_state(home) as state:
            Broker.from_home(home, config).check_keys(state.keys.list(), PolicySettings("own-use"))
