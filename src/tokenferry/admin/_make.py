from typing import TYPE_CHECKING

from tokenferry.actions import ActionContext, LoginService

if TYPE_CHECKING:
    from starlette.types import ASGIApp


def make_api(context: ActionContext, service: LoginService) -> "ASGIApp":
    """The API as an ASGI application, for behind a guard that has checked source and key."""
    from tokenferry.admin._app import make_app  # noqa: PLC0415  # it is first asked for when it is needed

    return make_app(context, service)
