"""The usage log of a gateway, and how its requests are billed."""

import time
from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING

from tokenferry.broker import Broker
from tokenferry.budgets import BudgetBook
from tokenferry.config import Config
from tokenferry.databases import open_ledger
from tokenferry.gateway import UsageLog, entries_with, token_counts
from tokenferry.ledger import Billing, BudgetExchange, LedgerWriter, WindowHistory, WindowPoint
from tokenferry.pool import Pool
from tokenferry.prices import PriceTable
from tokenferry.routing import OWN
from tokenferry.settings import Home
from tokenferry.state import ClientKey

if TYPE_CHECKING:
    from tokenferry.credentials import Kind


def usage_log_of(
    home: Home, config: Config, broker: Broker, pool: Pool, keys: Callable[[], Sequence[ClientKey]]
) -> UsageLog:
    """Make the writer of a gateway's ledger, with its budgets; `keys` gives the client keys that it accepts.

    It opens the file on its own thread, once there is usage to write or a budget to read.
    """
    history = WindowHistory()
    seen = -1

    def points() -> list[WindowPoint]:
        nonlocal seen
        if pool.usage.version == seen:
            return []
        seen = pool.usage.version
        return history.changes(pool.usage.states(), time.time())

    return LedgerWriter(
        lambda: open_ledger(home, config.store),
        entries_with(billing_of(broker, pool)),
        price_table_of(config),
        settings=config.ledger,
        points=points,
        budgets=BudgetExchange(
            BudgetBook(config.budgets, refuses_away=config.ledger.on_store_away == "refuse", to_counts=token_counts),
            keys,
        ),
    )


def billing_of(broker: Broker, pool: Pool) -> Callable[[str, str], Billing]:
    """Make the function that says how an account's requests to a provider are billed, as far as that is known."""
    kinds: dict[str, Kind] = {}
    listed: object = None

    def billing(provider: str, account: str) -> Billing:
        nonlocal kinds, listed
        if account == OWN:
            return "own"
        listing = broker.listing()
        if listing is not listed:
            listed, kinds = listing, {one.name: one.kind for one in listing.accounts}
        known, kind = broker.providers.get(provider), kinds.get(account)
        if known is None or not (known.subscription or (kind is not None and known.may_bill_subscription(kind))):
            return "metered"
        state = pool.usage.state(account)
        return "overage" if state is not None and state.bills_overage else "plan"

    return billing


def price_table_of(config: Config) -> Callable[[], PriceTable]:
    """Make the function that makes a configuration's price table, when it is first needed."""
    urls = {name: provider.base_url for name, provider in config.providers.items()}
    return lambda: PriceTable(urls, config.prices)
