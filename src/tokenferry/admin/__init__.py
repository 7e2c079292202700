"""The REST API of a gateway: accounts, logins and status. Its framework is imported when it is first asked."""

from tokenferry.admin._admin import Admin
from tokenferry.admin._parts import LOGIN_PAGE, Parts

__all__ = ["LOGIN_PAGE", "Admin", "Parts"]
