"""The dashboard: pages for people, over the actions that the REST API has. Imported when it is first opened."""

from typing import TYPE_CHECKING

from tokenferry.actions import ActionContext, LoginService

if TYPE_CHECKING:
    from starlette.types import ASGIApp

__all__ = ["make_dashboard"]


def make_dashboard(context: ActionContext, service: LoginService) -> "ASGIApp":
    """The dashboard as an ASGI application, for behind the gateway's guard; takes some 0.1 s when first called."""
    from tokenferry.dashboard._app import make_app  # noqa: PLC0415  # see above

    return make_app(context, service)
