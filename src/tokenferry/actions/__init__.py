"""What can be done with a gateway: the one layer under the REST API, the dashboard and the commands."""

from tokenferry.actions._context import CALLBACK, LOGIN_PAGE, ActionContext
from tokenferry.actions._login_service import LoginInProgress, LoginService, secret_of
from tokenferry.actions._status import status_of

__all__ = ["CALLBACK", "LOGIN_PAGE", "ActionContext", "LoginInProgress", "LoginService", "secret_of", "status_of"]
