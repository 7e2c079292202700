"""The REST API of a gateway: accounts, logins and status. Its framework is imported when it is first asked."""

from typing import TYPE_CHECKING

from tokenferry.actions import ActionContext, LoginService

if TYPE_CHECKING:
    from starlette.types import ASGIApp

__all__ = ["make_api"]


def make_api(context: ActionContext, service: LoginService) -> "ASGIApp":
    """The API as an ASGI application, for behind a guard that has checked source and key."""
    from tokenferry.admin._app import make_app  # noqa: PLC0415  # see above

    return make_app(context, service)
