from typing import Final

from tokenferry.broker import Broker
from tokenferry.config import Config
from tokenferry.routing import ListedAccounts, Router, RouteResolver
from tokenferry.state import ClientKey

ANYONE: Final = ClientKey("", "local", role="client", created_at=0, fingerprint="")
"""A client key without limits, like this machine's own."""


def resolver_of(config: Config, broker: Broker, listing: ListedAccounts | None = None) -> RouteResolver:
    """Make the gateway's route resolver, over these accounts, else over the present ones at each request."""
    router = Router(config.router, config.models, broker.providers)
    read = broker.book.listing if listing is None else lambda: listing
    return RouteResolver(config.router, broker.providers, router, read)
