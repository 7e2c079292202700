"""The question to answer once before a Claude subscription's login is used here."""

import sys
import time

from tokenferry.audit import note_change
from tokenferry.cli._input import confirmed
from tokenferry.cli._output import note
from tokenferry.config import Config
from tokenferry.errors import ConfigError, PolicyRefused
from tokenferry.policy_statement import LOGIN_REFUSED, MEANING, STATEMENT, TERMS, state
from tokenferry.settings import Home


def ask_for_own(home: Home, config: Config) -> bool:
    """Ask on the terminal for the statement, and record it; return whether the user states it.

    Raises `PolicyRefused` without a terminal, `ConfigError` if config.toml sets another policy.
    """
    if config.policy.source == "config.toml":
        raise ConfigError(
            f'{config.path} says subscriptions = "{config.policy.subscriptions}" under [policy], which overrides '
            "the statement; change or remove it there"
        )
    if sys.stdin is None or not sys.stdin.isatty():
        raise PolicyRefused(LOGIN_REFUSED)
    note("\n".join(("about Claude subscriptions:", *MEANING, TERMS)))
    if not confirmed(f'"{STATEMENT}" Do you state this?', flag="--yes"):
        return False
    state(home.statement, time.time())
    note_change(home, "policy.own", "policy")
    return True
