"""The actions of the admin API and the dashboard, as the commands run them: in the name of this machine's user.

A command imports this module only when it changes something: the import takes 40 ms, and lists don't need it.
"""

from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from typing import Final

from tokenferry.actions import (
    OPERATOR,
    AccountChange,
    ActionContext,
    KeyChange,
    KeyLimits,
    KeyRequest,
    change_account,
    change_key,
    clear_cooldowns,
    confirm_account,
    create_key,
    remove_account,
    revoke_keys,
    verify_account,
)
from tokenferry.cli._home import open_broker
from tokenferry.databases import open_state
from tokenferry.secret import Secret
from tokenferry.settings import Home

_NO_SECRET: Final = Secret("commands-begin-no-login-here")

__all__ = [
    "OPERATOR",
    "AccountChange",
    "KeyChange",
    "KeyLimits",
    "KeyRequest",
    "acting",
    "change_account",
    "change_key",
    "clear_cooldowns",
    "confirm_account",
    "create_key",
    "remove_account",
    "revoke_keys",
    "verify_account",
]


@contextmanager
def acting() -> Iterator[ActionContext]:
    """The context of an action. Configuration and state open on first use, and close at the end of the block."""
    home = Home.from_environment()
    with ExitStack() as stack:
        yield ActionContext(home, open_broker, lambda: stack.enter_context(open_state(home)), _NO_SECRET)
