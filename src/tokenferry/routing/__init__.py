"""Which model and providers a request goes to, by what its body and headers say. Pure: bytes in, a decision out."""

from tokenferry.routing._rewrite import Pieces, rewrite
from tokenferry.routing._router import Hop, NoRoute, Route, Router
from tokenferry.routing._scan import BodyFacts, Malformed, scan
from tokenferry.routing._tag import Tag

__all__ = ["BodyFacts", "Hop", "Malformed", "NoRoute", "Pieces", "Route", "Router", "Tag", "rewrite", "scan"]
