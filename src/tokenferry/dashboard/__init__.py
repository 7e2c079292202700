"""The dashboard: pages for people over the REST API's actions. Imported when it is first opened."""

from tokenferry.dashboard._make import make_dashboard

__all__ = ["make_dashboard"]
