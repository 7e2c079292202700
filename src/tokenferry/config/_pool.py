import re
from dataclasses import replace
from types import MappingProxyType
from typing import Final, get_args

from tokenferry.providers import Table
from tokenferry.settings import AccountCaps, Overage, PoolSettings, Strategy
from tokenferry.stores import ACCOUNT_NAME

_HEADER: Final = re.compile(r"[A-Za-z0-9!#$%&'*+.^_`|~-]{1,128}")
_MOST_ATTEMPTS: Final = 100
_LONGEST: Final = 600.0
_MOST_WAITING: Final = 100_000
_HIGHEST_RATE: Final = 1e6
_MOST_AT_A_TIME: Final = 65_536


def read_pool(table: Table) -> PoolSettings:
    default = PoolSettings()
    header = table.text("affinity_header")
    if header is not None and not _HEADER.fullmatch(header):
        table.problem("affinity_header", "must be the name of a request header, as in x-conversation-id")
    settings = PoolSettings(
        strategy=table.choice("strategy", default.strategy, get_args(Strategy)),
        affinity_header=None if header is None else header.lower(),
        attempts=_whole(table, "attempts", default.attempts, least=1, most=_MOST_ATTEMPTS),
        total=table.number("total", default.total, least=1, most=_LONGEST),
        queue=_whole(table, "queue", default.queue, least=0, most=_MOST_WAITING),
        quota_threshold=table.number("quota_threshold", 0.0, least=0.0, most=1.0) or None,
        overage=table.choice("overage", default.overage, get_args(Overage)),
        caps=_caps(table, default.caps),
    )
    return _with_accounts(table, settings)


def _with_accounts(table: Table, settings: PoolSettings) -> PoolSettings:
    """`[pool.accounts.NAME]`: what is different for one account."""
    caps: dict[str, AccountCaps] = {}
    accounts = table.table("accounts")
    for name in accounts.names():
        if not ACCOUNT_NAME.fullmatch(name):
            accounts.problem(name, "can't be an account's name")
        one = accounts.table(name)
        caps[name] = _caps(one, settings.caps)
        one.done()
    table.done()
    return replace(settings, account_caps=MappingProxyType(caps))


def _caps(table: Table, default: AccountCaps) -> AccountCaps:
    return AccountCaps(
        rate=table.number("rate", default.rate, least=0, most=_HIGHEST_RATE),
        concurrency=_whole(table, "concurrency", default.concurrency, least=0, most=_MOST_AT_A_TIME),
    )


def _whole(table: Table, key: str, default: int, *, least: int, most: int) -> int:
    value = table.number(key, default, least=least, most=most)
    if value != int(value):
        table.problem(key, "must be a whole number")
    return int(value)
