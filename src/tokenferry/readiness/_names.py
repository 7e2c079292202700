import time
from collections.abc import Container, Iterable, Iterator

from msgspec import Struct

from tokenferry.broker import Broker
from tokenferry.config import Config
from tokenferry.readiness._resolver import ANYONE
from tokenferry.state import ClientKey


class Misnamed(Struct, frozen=True):
    """A name in the configuration or a client key's rights that doesn't exist."""

    what: str
    where: str
    cure: str
    is_configured: bool = True
    """Whether the configuration names it, and not a client key."""


def misnamed(config: Config, broker: Broker, keys: Iterable[ClientKey] | None) -> Iterator[Misnamed]:
    """Yield the named accounts, providers and client keys that don't exist.

    `keys` is None if they can't be read; then they are not checked. Neither are accounts while there is none.
    """
    listing = broker.book.listing()
    accounts = {*(account.name for account in listing.accounts), *listing.broken}
    edit = f"edit {config.path}"
    if accounts:
        for where, name in _named_accounts(config):
            if name not in accounts:
                yield Misnamed(f"names account {name!r}, which does not exist", where, edit)
    if keys is None:
        return
    live = [key for key in keys if key.is_live(time.time())]
    labels = {ANYONE.name, *(key.name for key in live)}
    for rule in config.router.rules:
        for name in rule.keys:
            if name not in labels:
                where = f"router.rules.{rule.name}.keys"
                yield Misnamed(f"names client key {name!r}, which does not exist", where, edit)
    yield from _of_budgets(config, live)
    for key in live:
        yield from _of_key(key, accounts, broker.providers)


def _named_accounts(config: Config) -> Iterator[tuple[str, str]]:
    if config.router.account is not None:
        yield "router.account", config.router.account
    for provider in config.providers.values():
        for name in provider.accounts or ():
            yield f"providers.{provider.name}.accounts", name
    for name in config.pool.accounts:
        yield f"accounts.{name}", name


def _of_budgets(config: Config, live: Iterable[ClientKey]) -> Iterator[Misnamed]:
    for budget in config.budgets:
        if budget.kind != "all" and not any(budget.covers(key.id, key.name, key.labels) for key in live):
            label = f"; or: tokenferry key set NAME --label group={budget.name}" if budget.kind == "group" else ""
            yield Misnamed(f"is about {budget.whose()}, and no client key is", "a budget", f"edit {config.path}{label}")


def _of_key(key: ClientKey, accounts: Container[str], providers: Container[str]) -> Iterator[Misnamed]:
    where, rights = f"client key {key.name}", key.rights
    if rights.pin is not None and rights.pin not in accounts:
        cure = f"tokenferry key set {key.name} --pin NAME; or: tokenferry key revoke {key.name}"
        yield Misnamed(f"is pinned to account {rights.pin!r}, which does not exist", where, cure, is_configured=False)
    for name in rights.accounts:
        if name not in accounts and name != rights.pin:
            cure = f"tokenferry key set {key.name} --account NAME"
            yield Misnamed(f"may use account {name!r}, which does not exist", where, cure, is_configured=False)
    for name in rights.providers:
        if name not in providers:
            cure = f"tokenferry key set {key.name} --provider NAME"
            yield Misnamed(f"may use provider {name!r}, which is not declared", where, cure, is_configured=False)
