"""The gateway's HTTP/1.1 client: callbacks on `asyncio.Protocol`, one connection pool per origin."""

from tokenferry.upstream._call import Call
from tokenferry.upstream._client import UpstreamClient
from tokenferry.upstream._errors import (
    AnswerCut,
    AnswerTimeout,
    BadAnswer,
    BadRequest,
    ConnectError,
    UpstreamClosed,
    UpstreamError,
)
from tokenferry.upstream._proxy import Proxies
from tokenferry.upstream._request import FRAMING_HEADERS, Body, EncodedHeaders
from tokenferry.upstream._values import ResponseHead, Sink, Timeouts, UpstreamStatistics

__all__ = [
    "FRAMING_HEADERS",
    "AnswerCut",
    "AnswerTimeout",
    "BadAnswer",
    "BadRequest",
    "Body",
    "Call",
    "ConnectError",
    "EncodedHeaders",
    "Proxies",
    "ResponseHead",
    "Sink",
    "Timeouts",
    "UpstreamClient",
    "UpstreamClosed",
    "UpstreamError",
    "UpstreamStatistics",
]
