"""The REST API of a gateway: accounts, logins and status. Its framework is imported at the first request."""

from tokenferry.admin._make import make_api

__all__ = ["make_api"]
