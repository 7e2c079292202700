"""A fake provider on loopback: an OAuth authorization server and a Messages API, with faults on request."""

from tokenferry.sandbox._server import DEFAULT_PORT, Sandbox, serve

__all__ = ["DEFAULT_PORT", "Sandbox", "serve"]
