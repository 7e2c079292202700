from typing import Final

from tokenferry.broker import Broker
from tokenferry.config import Config
from tokenferry.routing import Router, RouteResolver
from tokenferry.state import ClientKey

ANYONE: Final = ClientKey("", "local", role="client", created_at=0, fingerprint="")
"""Stands for a client key without limits, as this machine's own is."""


def resolver_of(config: Config, broker: Broker) -> RouteResolver:
    """What the gateway resolves requests with, over the accounts as they are now."""
    router = Router(config.router, config.models, broker.providers)
    return RouteResolver(config.router, broker.providers, router, broker.book.listing)
