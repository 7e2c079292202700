"""APIs as clouds host them, by their documentation: Azure OpenAI, Claude on Vertex AI, Google's token endpoint."""

import json
import re
from typing import Any, Final
from urllib.parse import unquote

from tokenferry.sandbox import _chat, _messages, _responses
from tokenferry.sandbox._accounts import SETUP_SCOPE, find
from tokenferry.sandbox._http import Answer, Request, gemini_error, json_answer
from tokenferry.sandbox._identity import identity_claims
from tokenferry.sandbox._ledger import Family
from tokenferry.sandbox._oauth import FEDERATION_GRANT, OAuthError, needed, parameters
from tokenferry.sandbox._state import State

_AZURE: Final = re.compile(r"/openai/(?:v1|deployments/(?P<name>[^/]+))/(?P<path>chat/completions|responses)")
_VERTEX: Final = re.compile(
    r"/v1/projects/[^/]+/locations/[^/]+/publishers/anthropic/models/(?P<model>[^/:]+):(?P<call>rawPredict|streamRawPredict)"
)
_VERSION: Final = "vertex-2023-10-16"
_COUNT: Final = "count-tokens"
_WORKLOAD_GRANT: Final = "urn:ietf:params:oauth:grant-type:token-exchange"
_GOOGLE: Final = "https://oauth2.googleapis.com/token"
"""The audience that google-auth names, wherever it sends the grant."""


def is_hosted(path: str) -> bool:
    return _AZURE.fullmatch(path) is not None or _VERTEX.fullmatch(path) is not None


def hosted(state: State, request: Request) -> Answer:
    """`POST` to a path of a cloud."""
    if (found := _AZURE.fullmatch(request.path)) is not None:
        return _azure(state, request, found["name"], found["path"])
    found = _VERTEX.fullmatch(request.path)
    assert found is not None
    return _vertex(state, request, unquote(found["model"]), streams=found["call"] == "streamRawPredict")


def _azure(state: State, request: Request, deployment: str | None, path: str) -> Answer:
    """The key is in `api-key`. Only the older addresses take `api-version`."""
    if not request.header("api-key"):
        return _azure_error(401, "Access denied due to invalid subscription key.")
    if (deployment is not None) != ("api-version" in request.parameters):
        return _azure_error(404, "Resource not found")
    document = request.json if isinstance(request.json, dict) else {}
    if deployment is not None:
        document = document | {"model": unquote(deployment)}
    inner = _inner(request, f"/v1/{path}", document, [("authorization", f"Bearer {request.header('api-key')}")])
    return (_chat.completions if path == "chat/completions" else _responses.responses)(state, inner)


def _vertex(state: State, request: Request, model: str, *, streams: bool) -> Answer:
    """Google's token is the Bearer. The body has `anthropic_version`, and a model only for counting tokens."""
    document = request.json if isinstance(request.json, dict) else {}
    access = state.ledger.access.get(request.bearer)
    if access is None or access.dead or access.expires_at <= state.clock.now() or not access.is_exchanged:
        return _google_error(401, "Request had invalid authentication credentials.")
    faults = {
        f"anthropic_version: must be {_VERSION}": document.get("anthropic_version") != _VERSION,
        "model: Extra inputs are not permitted": ("model" in document) != (model == _COUNT),
        "stream: the call doesn't fit": bool(document.get("stream")) != streams,
    }
    for fault, is_there in faults.items():
        if is_there:
            return _google_error(400, fault)
    path = "/v1/messages/count_tokens" if model == _COUNT else "/v1/messages"
    body = {name: value for name, value in document.items() if name != "anthropic_version"}
    if model != _COUNT:
        if not model.startswith("claude"):
            return _google_error(404, f"Publisher Model `publishers/anthropic/models/{model}` was not found.")
        body["model"] = model
    refusal = state.settings[access.family.account].limits.refusal(state.clock.now(), model, subscription=False)
    if refusal is not None:
        return _google_error(429, f"Quota exceeded: {refusal.message}")
    inner = _inner(request, path, body, [("anthropic-version", "2023-06-01")])
    return (_messages.count_tokens if model == _COUNT else _messages.messages)(state, inner)


def google_token(state: State, request: Request) -> Answer:
    """`POST /google/token`: a service account's grant (RFC 7523), or a workload's token exchange (RFC 8693).

    Checks the claims of the given token, but no signature.
    """
    given = parameters(request)
    is_workload = given.get("grant_type") == _WORKLOAD_GRANT
    if not is_workload and given.get("grant_type") != FEDERATION_GRANT:
        raise OAuthError("unsupported_grant_type", "There is no such grant here.")
    try:
        claims = identity_claims(needed(given, "subject_token" if is_workload else "assertion"))
    except ValueError:
        raise OAuthError("invalid_grant", "The assertion is not a JWT.") from None
    who, scope = (claims.get("sub"), given.get("scope")) if is_workload else (claims.get("iss"), claims.get("scope"))
    account = find(str(who).partition("@")[0])
    is_meant = is_workload or claims.get("aud") in {_GOOGLE, f"{state.issuer}/google/token"}
    if account is None or not is_meant:
        raise OAuthError("invalid_grant", "Invalid JWT: the account is unknown, or the audience is another.")
    if "cloud-platform" not in str(scope):
        raise OAuthError("invalid_scope", "The scope must be cloud-platform.")
    lifetime = state.settings[account.name].token_lifetime
    access = state.ledger.new_access(Family(account.name, None, (SETUP_SCOPE,)), state.clock.now() + lifetime)
    access.is_exchanged = True
    state.counters.count(account.name, "exchanges")
    document = {"access_token": access.token, "expires_in": lifetime, "token_type": "Bearer"}
    return json_answer(document | {"issued_token_type": "urn:ietf:params:oauth:token-type:access_token"})


def _inner(request: Request, path: str, document: dict[str, Any], more: list[tuple[str, str]]) -> Request:
    """The request that the API behind the cloud gets."""
    names = {name for name, _ in more}
    headers = [(name, value) for name, value in request.headers if name not in names]
    inner = Request("POST", path, "", [*headers, *more])
    inner.body = json.dumps(document).encode()
    return inner


def _google_error(status: int, message: str) -> Answer:
    return json_answer(gemini_error(status, message), status)


def _azure_error(status: int, message: str) -> Answer:
    return json_answer({"error": {"code": str(status), "message": message}}, status)
