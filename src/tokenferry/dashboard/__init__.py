"""The dashboard: pages for people, over the actions that the REST API has. Imported when it is first opened."""

from tokenferry.dashboard._make import make_dashboard

__all__ = ["make_dashboard"]
