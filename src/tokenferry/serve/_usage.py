"""What writes down what a gateway's requests used, beside its way."""

import time
from collections.abc import Callable

from tokenferry.broker import Broker
from tokenferry.config import Config
from tokenferry.gateway import UsageLog, entries_with
from tokenferry.ledger import Billing, Ledger, LedgerWriter, WindowHistory, WindowPoint
from tokenferry.pool import Pool
from tokenferry.prices import PriceTable
from tokenferry.settings import Home


def usage_log_of(home: Home, config: Config, broker: Broker, pool: Pool) -> UsageLog:
    """What keeps the ledger of a gateway. It opens the file on its own thread, once there is something to write."""
    history = WindowHistory()
    seen = -1

    def points() -> list[WindowPoint]:
        nonlocal seen
        if pool.usage.version == seen:
            return []
        seen = pool.usage.version
        return history.changes(pool.usage.states(), time.time())

    def billing(provider: str, account: str) -> Billing:
        known = broker.providers.get(provider)
        kind = next((one.kind for one in broker.listing().accounts if one.name == account), None)
        if known is None or not (known.subscription or (kind is not None and known.may_bill_subscription(kind))):
            return "metered"
        state = pool.usage.state(account)
        return "overage" if state is not None and state.bills_overage else "plan"

    return LedgerWriter(
        lambda: Ledger(home.ledger), entries_with(billing), price_table_of(config), kept=config.ledger, points=points
    )


def price_table_of(config: Config) -> Callable[[], PriceTable]:
    """Makes the table of prices by a configuration, when it is first needed."""
    urls = {name: provider.base_url for name, provider in config.providers.items()}
    return lambda: PriceTable(urls, config.prices)
