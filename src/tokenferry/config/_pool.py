import re
from dataclasses import replace
from types import MappingProxyType
from typing import Final

from tokenferry.providers import Table
from tokenferry.settings import AccountCaps, AccountSettings, PoolSettings
from tokenferry.stores import ACCOUNT_NAME

_HEADER: Final = re.compile(r"[A-Za-z0-9!#$%&'*+.^_`|~-]{1,128}")


def read_pool(table: Table, accounts: Table) -> PoolSettings:
    """Read `[pool]`, and what `[accounts.NAME]` says differently of one account."""
    settings = table.read(PoolSettings())
    caps = table.read(AccountCaps())
    header = settings.affinity_header
    if header is not None and not _HEADER.fullmatch(header):
        table.problem("affinity_header", "must be the name of a request header, as in x-conversation-id")
    table.done()
    return replace(
        settings,
        affinity_header=None if header is None else header.lower(),
        caps=caps,
        accounts=MappingProxyType(_accounts(accounts, caps)),
    )


def _accounts(accounts: Table, caps: AccountCaps) -> dict[str, AccountSettings]:
    found: dict[str, AccountSettings] = {}
    for name in accounts.names():
        if not ACCOUNT_NAME.fullmatch(name):
            accounts.problem(name, "can't be an account's name")
        one = accounts.table(name)
        found[name] = one.read(AccountSettings(caps.requests_per_minute, caps.max_concurrency))
        one.done()
    return found
