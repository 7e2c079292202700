"""The REST API of a gateway: accounts, logins and status. Its framework is imported when it is first asked."""

from tokenferry.admin._admin import Admin
from tokenferry.admin._context import LOGIN_PAGE, AdminContext

__all__ = ["LOGIN_PAGE", "Admin", "AdminContext"]
