"""The address of a gateway's dashboard, and its guard."""

from urllib.parse import urlsplit

from tokenferry.config import Config
from tokenferry.gateway import DashboardGuard, Listening
from tokenferry.state import Role, State


def dashboard_origin(config: Config, where: Listening, state: State) -> str | None:
    """Give the dashboard's origin; None without a dashboard.

    Cookies ignore ports: a cookie of 127.0.0.1 goes to every program that listens there. So the origin is a name that
    can't be guessed, unless the configuration gives a public address or asks for the plain address.
    """
    public, url = config.server.public_url, where.url
    if not config.dashboard.enabled:
        return None
    if public is not None and (public.startswith("https:") or where.open_at is None or config.dashboard.remote):
        return public
    if url is None or (where.open_at is not None and not config.dashboard.remote):
        return None
    if config.dashboard.origin == "address" or where.tls is not None:  # the certificate is for the address
        return url
    port = urlsplit(url).port
    return f"http://tf-{state.sessions.label()}.localhost{'' if port == 80 else f':{port}'}"  # noqa: PLR2004  # http's


def dashboard_guard(origin: str | None, config: Config) -> DashboardGuard | None:
    """Make the dashboard's guard. Its origin is fixed at the start; its user header follows the configuration."""
    header = config.dashboard.user_header
    return None if origin is None else DashboardGuard(origin, None if header is None else header.encode("ascii"))


def role_of(config: Config, user: str) -> Role:
    """Give the role of a user that a trusted proxy names."""
    return "admin" if user in config.dashboard.admins else "viewer"
