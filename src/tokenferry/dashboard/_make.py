from typing import TYPE_CHECKING

from tokenferry.actions import ActionContext, LoginService

if TYPE_CHECKING:
    from starlette.types import ASGIApp


def make_dashboard(context: ActionContext, service: LoginService) -> "ASGIApp":
    """The dashboard as an ASGI application, for behind the gateway's guard; takes some 0.1 s when first called."""
    from tokenferry.dashboard._app import make_app  # noqa: PLC0415  # it is first asked for when it is needed

    return make_app(context, service)
