"""Whose a client key is, where that decides what it may be used for."""

from tokenferry.broker import Broker, is_foreign
from tokenferry.cli._home import find
from tokenferry.databases import has_state, open_state
from tokenferry.settings import PolicySettings
from tokenferry.state import ClientKey


def refuse_foreign(*keys: ClientKey) -> None:
    """Raise `PolicyRefused` for a key that is somebody else's and could be served a subscription, as policy is now.

    Keys of one's own need no configuration to be looked at, which may be a broken one.
    """
    if not any(map(is_foreign, keys)):
        return
    home, config = find()
    if config.policy.subscriptions == "own-use":
        Broker.from_home(home, config).check_keys(keys)


def refuse_own_with_foreign() -> None:
    """Raise `PolicyRefused` if the policy `own` could not hold because of a key that is there."""
    home, config = find()
    if has_state(home):
        with open_state(home) as state:
            Broker.from_home(home, config).check_keys(state.keys.list(), PolicySettings("own-use"))
