"""Assembles the gateway and runs it: the only room that knows all of its parts."""

from tokenferry.serve._embedded import EmbeddedGateway
from tokenferry.serve._private import PrivateGateway
from tokenferry.serve._serve import serve

__all__ = ["EmbeddedGateway", "PrivateGateway", "serve"]
