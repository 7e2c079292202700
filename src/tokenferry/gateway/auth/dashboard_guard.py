"""What reaches the dashboard: its own origin alone, since a cookie of 127.0.0.1 goes to every port there."""

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
"""A page that is the same for everybody, where a link of another site may lead."""


def is_dashboard(raw_path: bytes) -> bool:
    """Tell whether a path, as it was sent, belongs to the dashboard."""
    return raw_path == DASHBOARD_PATH or raw_path.startswith(b"/dashboard/")


class DashboardGuard(Struct, frozen=True):
    """Raises a `GatewayError` for what a page of another origin could have sent. `origin` is the dashboard's own."""

    origin: str
    user_header: bytes | None = None
    """The header in which a trusted proxy names the user."""

    @property
    def host(self) -> bytes:
        return urlsplit(self.origin).netloc.lower().encode("ascii")

    def is_its_host(self, headers: Sequence[Header]) -> bool:
        """Tell whether a request was sent to the dashboard's own name."""
        return [value.lower() for name, value in headers if name == b"host"] == [self.host]

    def check(self, method: str, raw_path: bytes, headers: Sequence[Header]) -> None:
        """Refuse what isn't the dashboard's own page, a person's navigation, or a form of the dashboard."""
        sites = {value.lower() for name, value in headers if name == b"sec-fetch-site"}
        is_foreign = not sites <= _OWN_SITES
        if method in _SAFE:
            is_led_here = raw_path == _ENTRY and set(headers) >= _NAVIGATION
            if is_foreign and not is_led_here:
                message = "another site's page led here; open the dashboard with: tokenferry dashboard"
                raise GatewayError(403, "permission_error", message)
            return
        origins = [value.lower() for name, value in headers if name == b"origin"]
        if is_foreign or origins != [self.origin.encode("ascii")]:
            raise GatewayError(403, "permission_error", "web pages of other sites may not change anything here")
        kinds = [value.partition(b";")[0].strip().lower() for name, value in headers if name == b"content-type"]
        if kinds != [_FORM]:
            raise GatewayError(415, "invalid_request_error", "the dashboard takes forms alone")
