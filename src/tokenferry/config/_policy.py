from typing import Literal

from tokenferry.providers import Table
from tokenferry.settings import PolicySettings


def read_policy(table: Table) -> PolicySettings:
    source: Literal["default", "config.toml"] = "config.toml" if "subscription" in table else "default"
    settings = PolicySettings(table.choice("subscription", "off", ("off", "own")), source)
    table.done()
    return settings
