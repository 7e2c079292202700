"""A fake provider on loopback: an OAuth server, a Messages API and Chat Completions, with faults on request."""

from tokenferry.sandbox._server import DEFAULT_PORT, Sandbox, serve

__all__ = ["DEFAULT_PORT", "Sandbox", "serve"]
