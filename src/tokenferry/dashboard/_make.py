from typing import TYPE_CHECKING

from tokenferry.actions import ActionContext, LoginService

if TYPE_CHECKING:
    from starlette.types import ASGIApp


def make_dashboard(context: ActionContext, service: LoginService) -> "ASGIApp":
    """Make the dashboard's ASGI application, to run behind the gateway's guard; the first call takes 0.1 s."""
    from tokenferry.dashboard._app import make_app  # noqa: PLC0415  # imported when first used

    return make_app(context, service)
