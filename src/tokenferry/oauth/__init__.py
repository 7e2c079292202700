from tokenferry.oauth._endpoints import OAuthEndpoints
from tokenferry.oauth._refresh import Closed, Denied, Granted, Outcome, Uncertain, read_refresh, refresh_request
from tokenferry.oauth._wire import (
    MAX_ANSWER,
    Answer,
    Lost,
    NotSent,
    TokenRequest,
    Transmission,
    encode_request,
    retry_after,
)

__all__ = [
    "MAX_ANSWER",
    "Answer",
    "Closed",
    "Denied",
    "Granted",
    "Lost",
    "NotSent",
    "OAuthEndpoints",
    "Outcome",
    "TokenRequest",
    "Transmission",
    "Uncertain",
    "encode_request",
    "read_refresh",
    "refresh_request",
    "retry_after",
]
