from msgspec.structs import replace

from tokenferry.providers import Table
from tokenferry.settings import PolicySettings


def read_policy(table: Table) -> PolicySettings:
    table.former(table, "subscription", "subscriptions")
    settings = table.read(PolicySettings())
    if "subscriptions" in table:
        settings = replace(settings, source="config.toml")
    table.done()
    return settings
