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
    """The clients of all upstreams, one per base URL, made on first use. They belong to one event loop."""

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
        """The arguments are those of each `UpstreamClient`. `gateway_id` marks requests by `Via`, to detect loops."""
        self._timeouts = timeouts
        self._ssl_context = ssl_context
        self._ca_file = ca_file
        self._proxies = proxies
        self._max_connections = max_connections
        self._mark = b""
        if gateway_id is not None:
            self._mark = b"tf-" + gateway_id.encode("ascii")
            vendor_hosts()  # reads files, which no request must wait for
        self._known: dict[str, UpstreamClient] = {}
        self._retired: list[UpstreamClient] = []
        self._connection_settings: Hashable = None

    @classmethod
    def configured(
        cls,
        settings: UpstreamSettings,
        environ: Mapping[str, str] | None = None,
        *,
        trust: Hashable = None,
        gateway_id: str | None = None,
    ) -> Self:
        """Make clients by settings and the environment's proxies. For `trust` see `adopt`."""
        proxies = Proxies.from_environment(environ)
        upstreams = cls(
            timeouts=_timeouts(settings),
            ca_file=settings.ca_file,
            proxies=proxies,
            max_connections=settings.max_connections or None,
            gateway_id=gateway_id,
        )
        upstreams._connection_settings = _connection_settings(settings, trust)
        return upstreams

    def adopt(self, settings: UpstreamSettings, trust: Hashable = None) -> None:
        """Use new settings for new clients, if they differ. Existing clients finish their calls.

        `trust` changes when the file of certificates changes.
        """
        reach = _connection_settings(settings, trust)
        if reach == self._connection_settings:
            return
        self._connection_settings = reach
        self._timeouts = _timeouts(settings)
        self._ca_file = settings.ca_file
        self._max_connections = settings.max_connections or None
        self._retired = [upstream for upstream in self._retired if upstream.statistics().open]
        self._retired += self._known.values()
        self._known = {}

    def get(self, base_url: str) -> UpstreamClient:
        """Give the client of a base URL. Raises `ConfigError` for an invalid URL, or an invalid one of its proxy."""
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
        """Whether a request with these `Via` headers was sent by this gateway, or another of its home."""
        return bool(self._mark) and any(self._mark in via for via in vias)

    def statistics(self) -> Mapping[str, UpstreamStatistics]:
        """Give the statistics by base URL."""
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


def _connection_settings(settings: UpstreamSettings, trust: Hashable) -> Hashable:
    """Give the settings that a client depends on."""
    return settings.ca_file, trust, settings.max_connections, _timeouts(settings)
