import asyncio
import ssl
from collections.abc import Hashable, Iterable, Mapping
from pathlib import Path
from types import MappingProxyType
from typing import Self

from tokenferry.providers import is_builtin_vendor, vendor_hosts
from tokenferry.settings import UpstreamSettings
from tokenferry.upstream import Proxies, Timeouts, UpstreamClient, UpstreamStatistics


class UpstreamClients:
    """One client per base URL, made when it is first needed. They belong to one event loop."""

    def __init__(
        self,
        *,
        timeouts: Timeouts | None = None,
        ssl_context: ssl.SSLContext | None = None,
        ca_file: Path | None = None,
        proxies: Proxies | None = None,
        max_connections: int | None = None,
        gateway_id: str | None = None,
    ) -> None:
        """As in `UpstreamClient`, for each. With a `gateway_id` a request that comes back is known by its `Via`."""
        self._timeouts = timeouts
        self._ssl_context = ssl_context
        self._ca_file = ca_file
        self._proxies = proxies
        self._max_connections = max_connections
        self._mark = b""
        if gateway_id is not None:
            self._mark = b"tf-" + gateway_id.encode("ascii")
            vendor_hosts()  # read from files here, and not while a request waits
        self._known: dict[str, UpstreamClient] = {}
        self._retired: list[UpstreamClient] = []
        self._reach: Hashable = None

    @classmethod
    def configured(
        cls,
        settings: UpstreamSettings,
        environ: Mapping[str, str] | None = None,
        *,
        trust: Hashable = None,
        gateway_id: str | None = None,
    ) -> Self:
        """As the settings say, through the environment's proxies; for `trust` see `adopt`."""
        proxies = Proxies.from_environment(environ)
        upstreams = cls(
            timeouts=_timeouts(settings),
            ca_file=settings.ca_file,
            proxies=proxies,
            max_connections=settings.max_connections or None,
            gateway_id=gateway_id,
        )
        upstreams._reach = _reach(settings, trust)
        return upstreams

    def adopt(self, settings: UpstreamSettings, trust: Hashable = None) -> None:
        """Make clients by these settings from here on, if they differ. Those there were end what they are at.

        `trust` is another value where the file of certificates holds others than before.
        """
        reach = _reach(settings, trust)
        if reach == self._reach:
            return
        self._reach = reach
        self._timeouts = _timeouts(settings)
        self._ca_file = settings.ca_file
        self._max_connections = settings.max_connections or None
        self._retired = [upstream for upstream in self._retired if upstream.statistics().open]
        self._retired += self._known.values()
        self._known = {}

    def get(self, base_url: str) -> UpstreamClient:
        """Raises `ConfigError` for a URL that can't be an upstream, and for a malformed one of a proxy on the way."""
        known = self._known.get(base_url)
        if known is None:
            known = UpstreamClient(
                base_url,
                ssl_context=self._ssl_context,
                ca_file=self._ca_file,
                proxies=self._proxies,
                timeouts=self._timeouts,
                max_connections=self._max_connections,
                lines=() if not self._mark or is_builtin_vendor(base_url) else (b"via: 1.1 %b\r\n" % self._mark,),
            )
            self._known[base_url] = known
        return known

    def is_loop(self, vias: Iterable[bytes]) -> bool:
        """Tell whether a request with these `Via` headers was sent by this gateway before, or by one of its home."""
        return bool(self._mark) and any(self._mark in via for via in vias)

    def statistics(self) -> Mapping[str, UpstreamStatistics]:
        """By base URL."""
        return MappingProxyType({url: upstream.statistics() for url, upstream in self._known.items()})

    async def aclose(self) -> None:
        """End every call and close every connection."""
        await asyncio.gather(*(upstream.aclose() for upstream in (*self._known.values(), *self._retired)))


def _timeouts(settings: UpstreamSettings) -> Timeouts:
    return Timeouts(
        connect=settings.connect_timeout,
        first_byte=settings.response_timeout,
        first_byte_stream=min(settings.response_timeout, settings.stream_start_timeout),
    )


def _reach(settings: UpstreamSettings, trust: Hashable) -> Hashable:
    """What tells clients apart that reach upstreams in different ways."""
    return settings.ca_file, trust, settings.max_connections, _timeouts(settings)
