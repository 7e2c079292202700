from typing import TYPE_CHECKING

from tokenferry.actions import ActionContext, LoginService

if TYPE_CHECKING:
    from starlette.types import ASGIApp


def make_api(context: ActionContext, service: LoginService) -> "ASGIApp":
    """Make the API's ASGI application, to run behind a guard that has checked source and key."""
    from tokenferry.admin._app import make_app  # noqa: PLC0415  # imported when first used

    return make_app(context, service)
