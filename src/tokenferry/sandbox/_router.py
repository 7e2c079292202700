from collections.abc import Callable

from tokenferry.sandbox import (
    _authorize,
    _chat,
    _clouds,
    _gemini,
    _messages,
    _oauth,
    _profile,
    _responses,
    _vendor_logins,
)
from tokenferry.sandbox._http import CHAT_PATH, RESPONSES_PATH, Answer, ApiError, Request, error_answer, json_answer
from tokenferry.sandbox._state import State

_Handler = Callable[[State, Request], Answer]


def _hello(_state: State, _request: Request) -> Answer:
    return json_answer({"message": "hello"})


_ROUTES: dict[str, dict[str, _Handler]] = {
    "/": {"GET": _hello},
    "/api/hello": {"GET": _hello},
    CHAT_PATH: {"POST": _chat.completions},
    RESPONSES_PATH: {"POST": _responses.responses},
    "/v1/messages": {"POST": _messages.messages},
    "/v1/messages/count_tokens": {"POST": _messages.count_tokens},
    "/v1/models": {"GET": _messages.models},
    "/v1beta/models": {"GET": _gemini.models},
    "/api/oauth/profile": {"GET": _profile.profile},
    "/api/oauth/usage": {"GET": _profile.usage},
    "/api/oauth/claude_cli/create_api_key": {"POST": _profile.create_api_key},
    "/oauth/authorize": {"GET": _authorize.authorize, "POST": _authorize.authorize},
    "/cai/oauth/authorize": {"GET": _authorize.authorize, "POST": _authorize.authorize},
    "/oauth/code/callback": {"GET": _authorize.code_callback},
    "/oauth/device_authorization": {"POST": _authorize.device_authorization},
    "/oauth/device": {"GET": _authorize.device_page, "POST": _authorize.device_page},
    "/v1/oauth/token": {"POST": _oauth.token},
    "/v1/oauth/token/revoke": {"POST": _oauth.revoke},
    "/login/device/code": {"POST": _vendor_logins.github_device_code},
    "/login/oauth/access_token": {"POST": _vendor_logins.github_access_token},
    "/copilot_internal/v2/token": {"GET": _vendor_logins.github_exchange},
    "/oauth/code": {"POST": _vendor_logins.minimax_code},
    "/oauth/token": {"POST": _vendor_logins.minimax_token},
    "/google/token": {"POST": _clouds.google_token},
    "/.well-known/oauth-authorization-server": {"GET": _oauth.metadata},
}


def answer(state: State, request: Request, request_id: str) -> Answer:
    """Carry out a request. HEAD is GET without the body, which the listener leaves out."""
    routes = _ROUTES.get(request.path)
    if routes is None and request.path.startswith("/v1/models/"):
        routes = {"GET": _messages.model}
    if request.gemini is not None:
        routes = {"POST": _gemini.generate}
    if routes is None and _clouds.is_hosted(request.path):
        routes = {"POST": _clouds.hosted}
    if routes is None:
        return error_answer(404, "Not Found", request_id)
    handler = routes.get("GET" if request.method == "HEAD" else request.method)
    if handler is None:
        return error_answer(405, "Method Not Allowed", request_id, headers=[("allow", ", ".join(routes))])
    try:
        return handler(state, request)
    except ApiError as error:
        return error_answer(
            error.status,
            error.message,
            request_id,
            headers=error.headers,
            dialect=request.dialect,
            details=error.details,
        )
    except _oauth.OAuthError as error:
        return _oauth.oauth_error_answer(error)
