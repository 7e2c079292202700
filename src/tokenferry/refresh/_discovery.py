"""Endpoints that aren't declared, asked of the issuer (RFC 8414) when they are first needed."""

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

_KEPT_FOR: Final = 86_400.0
_FAILED_FOR: Final = 10.0
_TIMEOUT: Final = 10.0


class Discovery:
    """Completes endpoints that name an `issuer`, and remembers for a day what it said. Thread-safe."""

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
        """The endpoints with what their issuer says; where those needed are declared, it isn't asked.

        Raises `RefreshFailed` when it can't be asked now. What it doesn't say stays None.
        """
        if endpoints.issuer is None or all(getattr(endpoints, name) for name in needed):
            return endpoints
        with self._guard:  # a caller that comes in between gets the same answer
            found, until = self._found.get(endpoints, ("", 0.0))
            if self._monotonic() >= until:
                found = self._ask(endpoints)
                kept_for = _FAILED_FOR if isinstance(found, str) else _KEPT_FOR
                self._found[endpoints] = found, self._monotonic() + kept_for
        if isinstance(found, str):
            raise RefreshFailed(
                f"the metadata of {endpoints.issuer} can't be had: {found}; try again, or declare "
                f"{' and '.join(needed)} under [providers.oauth] in config.toml",
                retry_after=_FAILED_FOR,
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
