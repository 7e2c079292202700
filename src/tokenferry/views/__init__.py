"""What people look at, as values: nothing here prints, renders or changes anything. For the dashboard and commands."""

from tokenferry.views._books import LedgerReader
from tokenferry.views._keys import KeyUse, key_uses
from tokenferry.views._now import Figure, Need, NowView, Provenance, now_view
from tokenferry.views._own_usage import OwnUsage, own_usage
from tokenferry.views._routing import RoutingRule, RoutingTable, routing_table
from tokenferry.views._story import (
    AgentShare,
    RequestStory,
    SessionStory,
    request_story,
    session_story,
    story_lines,
)
from tokenferry.views._traffic import RANGES, SeriesOf, TrafficQuery, TrafficView, quantile, traffic_query, traffic_view
from tokenferry.views._windows import WindowShare, open_windows

__all__ = [
    "RANGES",
    "AgentShare",
    "Figure",
    "KeyUse",
    "LedgerReader",
    "Need",
    "NowView",
    "OwnUsage",
    "Provenance",
    "RequestStory",
    "RoutingRule",
    "RoutingTable",
    "SeriesOf",
    "SessionStory",
    "TrafficQuery",
    "TrafficView",
    "WindowShare",
    "key_uses",
    "now_view",
    "open_windows",
    "own_usage",
    "quantile",
    "request_story",
    "routing_table",
    "session_story",
    "story_lines",
    "traffic_query",
    "traffic_view",
]
