"""Routing: decides which providers, accounts and model serve a request. The package is pure."""

from tokenferry.routing._codecs import codec_for, count_codec_for
from tokenferry.routing._default_targets import NO_DEFAULT, DefaultTargets, default_targets
from tokenferry.routing._hosting import hosted_member, hosted_target
from tokenferry.routing._key_view import KeyView, RoutePlan
from tokenferry.routing._loggable import loggable, loggable_name, loggable_path, loggable_text
from tokenferry.routing._members import TooComplex
from tokenferry.routing._resolver import OWN, ListedAccounts, RouteRequest, RouteResolver
from tokenferry.routing._rewrite import Pieces, rewrite, with_members
from tokenferry.routing._rights import model_denied
from tokenferry.routing._router import MappedTarget, NoRoute, Route, Router
from tokenferry.routing._scan import LONGEST_MODEL, BodyFacts, Malformed, scan
from tokenferry.routing._tag import Tag

__all__ = [
    "LONGEST_MODEL",
    "NO_DEFAULT",
    "OWN",
    "BodyFacts",
    "DefaultTargets",
    "KeyView",
    "ListedAccounts",
    "Malformed",
    "MappedTarget",
    "NoRoute",
    "Pieces",
    "Route",
    "RoutePlan",
    "RouteRequest",
    "RouteResolver",
    "Router",
    "Tag",
    "TooComplex",
    "codec_for",
    "count_codec_for",
    "default_targets",
    "hosted_member",
    "hosted_target",
    "loggable",
    "loggable_name",
    "loggable_path",
    "loggable_text",
    "model_denied",
    "rewrite",
    "scan",
    "with_members",
]
