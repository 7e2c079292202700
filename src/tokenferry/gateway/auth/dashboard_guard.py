"""Admits only the dashboard's own origin, since a cookie of 127.0.0.1 is sent to every port."""

from collections.abc import Sequence
from typing import Final
from urllib.parse import urlsplit

from msgspec import Struct

from tokenferry.gateway.http.errors import GatewayError
from tokenferry.gateway.http.headers import Header

DASHBOARD_PATH: Final = b"/dashboard"
_FORM: Final = b"application/x-www-form-urlencoded"
_SAFE: Final = frozenset(("GET", "HEAD"))
_OWN_SITES: Final = frozenset((b"same-origin", b"none"))
_NAVIGATION: Final = frozenset(((b"sec-fetch-mode", b"navigate"), (b"sec-fetch-dest", b"document")))
_ENTRY: Final = b"/dashboard/enter"
"""A page without user data, which other sites may link to."""


def is_dashboard(raw_path: bytes) -> bool:
    """Whether a raw path belongs to the dashboard."""
    return raw_path == DASHBOARD_PATH or raw_path.startswith(b"/dashboard/")


class DashboardGuard(Struct, frozen=True):
    """Raises a `GatewayError` for requests that another origin's page could have sent. `origin` is the dashboard's."""

    origin: str
    user_header: bytes | None = None
    """The header in which a trusted proxy names the user."""

    @property
    def host(self) -> bytes:
        return urlsplit(self.origin).netloc.lower().encode("ascii")

    def is_own_host(self, headers: Sequence[Header]) -> bool:
        """Whether a request was sent to the dashboard's own host."""
        return [value.lower() for name, value in headers if name == b"host"] == [self.host]

    def check(self, method: str, raw_path: bytes, headers: Sequence[Header]) -> None:
        """Refuse anything but a request of the dashboard's own page, a navigation, or a form of the dashboard."""
        sites = {value.lower() for name, value in headers if name == b"sec-fetch-site"}
        is_foreign = not sites <= _OWN_SITES
        if method in _SAFE:
            is_link = raw_path == _ENTRY and set(headers) >= _NAVIGATION
            if is_foreign and not is_link:
                message = "another site may not open this page; open the dashboard with: tokenferry dashboard"
                raise GatewayError(403, "permission_error", message)
            return
        origins = [value.lower() for name, value in headers if name == b"origin"]
        if is_foreign or origins != [self.origin.encode("ascii")]:
            raise GatewayError(403, "permission_error", "web pages of other sites may not change anything here")
        kinds = [value.partition(b";")[0].strip().lower() for name, value in headers if name == b"content-type"]
        if kinds != [_FORM]:
            raise GatewayError(415, "invalid_request_error", "the dashboard accepts only forms")
