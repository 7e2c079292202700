"""Discovery of endpoints that a provider doesn't declare, from its issuer's metadata (RFC 8414), at first use."""

import threading
import time
from collections.abc import Callable
from typing import Final, Literal, TypeAlias

from tokenferry.errors import RefreshFailed
from tokenferry.oauth import HttpOutcome, OAuthEndpoints, TokenRequest, metadata_requests, read_metadata
from tokenferry.providers import url_fault

Needed: TypeAlias = Literal[
    "authorization_endpoint", "token_endpoint", "revocation_endpoint", "device_authorization_endpoint"
]

_CACHE_SECONDS: Final = 86_400.0
_FAILURE_SECONDS: Final = 10.0
_TIMEOUT: Final = 10.0


class Discovery:
    """Completes endpoints that name an `issuer`, and caches its metadata for a day. Thread-safe."""

    def __init__(
        self,
        send: Callable[[TokenRequest, float], HttpOutcome],
        *,
        monotonic: Callable[[], float] = time.monotonic,
    ) -> None:
        self._send = send
        self._monotonic = monotonic
        self._guard = threading.Lock()
        self._found: dict[OAuthEndpoints, tuple[OAuthEndpoints | str, float]] = {}

    def complete(self, endpoints: OAuthEndpoints, *needed: Needed) -> OAuthEndpoints:
        """Return the endpoints, completed from the issuer's metadata unless all that are `needed` are declared.

        An endpoint missing there stays None. Raises `RefreshFailed` when the metadata can't be read now.
        """
        if endpoints.issuer is None or all(getattr(endpoints, name) for name in needed):
            return endpoints
        with self._guard:  # a caller that comes in between gets the same answer
            found, until = self._found.get(endpoints, ("", 0.0))
            if self._monotonic() >= until:
                found = self._ask(endpoints)
                lifetime = _FAILURE_SECONDS if isinstance(found, str) else _CACHE_SECONDS
                self._found[endpoints] = found, self._monotonic() + lifetime
        if isinstance(found, str):
            raise RefreshFailed(
                f"the metadata of {endpoints.issuer} can't be read: {found}; try again, or declare "
                f"{' and '.join(needed)} under [providers.oauth] in config.toml",
                retry_after=_FAILURE_SECONDS,
            )
        return found

    def _ask(self, endpoints: OAuthEndpoints) -> OAuthEndpoints | str:
        assert endpoints.issuer is not None
        reason = ""
        for request in metadata_requests(endpoints.issuer):
            found = read_metadata(self._send(request, _TIMEOUT), endpoints, url_fault)
            if not isinstance(found, str):
                return found
            reason = reason or found
        return reason
