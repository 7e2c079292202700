"""Puts the gateway together and runs it: the only place that knows all of its parts."""

from tokenferry.serve._embedded import EmbeddedGateway
from tokenferry.serve._private import PrivateGateway
from tokenferry.serve._serve import serve

__all__ = ["EmbeddedGateway", "PrivateGateway", "serve"]
