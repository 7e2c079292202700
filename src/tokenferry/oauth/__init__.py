from tokenferry.oauth._api_key import api_key_request, read_api_key
from tokenferry.oauth._authorize import Authorization, AuthorizationCode, answer_parameters, pasted_state
from tokenferry.oauth._device import DeviceCode, DevicePoll, device_request, read_device
from tokenferry.oauth._endpoints import SUBJECT, OAuthEndpoints, TokenExchange
from tokenferry.oauth._exchange import exchange_request, read_exchange
from tokenferry.oauth._federation import federation_request, read_federation
from tokenferry.oauth._metadata import metadata_requests, read_metadata
from tokenferry.oauth._profile import profile_request, read_profile
from tokenferry.oauth._refresh import Denied, Granted, NotGranted, Outcome, Uncertain, read_refresh, refresh_request
from tokenferry.oauth._revoke import read_revocation, revocation_request
from tokenferry.oauth._token_exchange import read_token_exchange, token_exchange_request
from tokenferry.oauth._wire import (
    MAX_ANSWER,
    HttpOutcome,
    NotSent,
    TokenRequest,
    TokenResponse,
    TokenResponseLost,
    encode_request,
    retry_after,
)

__all__ = [
    "MAX_ANSWER",
    "SUBJECT",
    "Authorization",
    "AuthorizationCode",
    "Denied",
    "DeviceCode",
    "DevicePoll",
    "Granted",
    "HttpOutcome",
    "NotGranted",
    "NotSent",
    "OAuthEndpoints",
    "Outcome",
    "TokenExchange",
    "TokenRequest",
    "TokenResponse",
    "TokenResponseLost",
    "Uncertain",
    "answer_parameters",
    "api_key_request",
    "device_request",
    "encode_request",
    "exchange_request",
    "federation_request",
    "metadata_requests",
    "pasted_state",
    "profile_request",
    "read_api_key",
    "read_device",
    "read_exchange",
    "read_federation",
    "read_metadata",
    "read_profile",
    "read_refresh",
    "read_revocation",
    "read_token_exchange",
    "refresh_request",
    "retry_after",
    "revocation_request",
    "token_exchange_request",
]
