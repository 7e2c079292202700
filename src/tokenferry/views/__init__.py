"""The present state of a home as values, for the dashboard and commands. Nothing here prints or changes anything."""

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
    running_story,
    session_story,
    story_lines,
)
from tokenferry.views._traffic import (
    MOST_SESSIONS,
    RANGES,
    RunningRequest,
    RunningRequests,
    SeriesOf,
    TrafficQuery,
    TrafficView,
    quantile,
    traffic_query,
    traffic_rows,
    traffic_view,
)
from tokenferry.views._windows import WindowLine, WindowShare, open_windows, window_lines

__all__ = [
    "MOST_SESSIONS",
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
    "RunningRequest",
    "RunningRequests",
    "SeriesOf",
    "SessionStory",
    "TrafficQuery",
    "TrafficView",
    "WindowLine",
    "WindowShare",
    "key_uses",
    "now_view",
    "open_windows",
    "own_usage",
    "quantile",
    "request_story",
    "routing_table",
    "running_story",
    "session_story",
    "story_lines",
    "traffic_query",
    "traffic_rows",
    "traffic_view",
    "window_lines",
]
