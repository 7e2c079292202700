import asyncio
import ssl
from collections.abc import Mapping
from types import MappingProxyType

from tokenferry.gateway.upstream import Statistics, Timeouts, Upstream


class Upstreams:
    """One client per base URL, made when it is first needed. They belong to one event loop."""

    def __init__(self, *, timeouts: Timeouts | None = None, ssl_context: ssl.SSLContext | None = None) -> None:
        self._timeouts = timeouts
        self._ssl_context = ssl_context
        self._known: dict[str, Upstream] = {}

    def get(self, base_url: str) -> Upstream:
        """Raises `ConfigError` for a URL that can't be an upstream."""
        known = self._known.get(base_url)
        if known is None:
            known = Upstream(base_url, ssl_context=self._ssl_context, timeouts=self._timeouts)
            self._known[base_url] = known
        return known

    def statistics(self) -> Mapping[str, Statistics]:
        """By base URL."""
        return MappingProxyType({url: upstream.statistics() for url, upstream in self._known.items()})

    async def aclose(self) -> None:
        """End every exchange and close every connection."""
        await asyncio.gather(*(upstream.aclose() for upstream in self._known.values()))
