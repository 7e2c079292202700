"""The gateway's own HTTP/1.1 client: call-backs on `asyncio.Protocol`, one pool per origin."""

from tokenferry.gateway.upstream._errors import (
    AnswerCut,
    AnswerTimeout,
    BadAnswer,
    BadRequest,
    ConnectFailed,
    UpstreamClosed,
    UpstreamError,
)
from tokenferry.gateway.upstream._proxy import Proxies
from tokenferry.gateway.upstream._request import FRAMING_HEADERS, Body
from tokenferry.gateway.upstream._response import Response
from tokenferry.gateway.upstream._upstream import Upstream
from tokenferry.gateway.upstream._values import Exchange, Head, Sink, Statistics, Timeouts

__all__ = [
    "FRAMING_HEADERS",
    "AnswerCut",
    "AnswerTimeout",
    "BadAnswer",
    "BadRequest",
    "Body",
    "ConnectFailed",
    "Exchange",
    "Head",
    "Proxies",
    "Response",
    "Sink",
    "Statistics",
    "Timeouts",
    "Upstream",
    "UpstreamClosed",
    "UpstreamError",
]
