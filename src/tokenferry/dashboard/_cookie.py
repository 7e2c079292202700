from typing import Final

from starlette.requests import Request
from starlette.responses import Response

from tokenferry.actions import secret_of
from tokenferry.secret import Secret
from tokenferry.state import SESSION_LIFETIME

_NAME: Final = "tf_session"


class SessionCookie:
    """The cookie of a session, for the dashboard's origin."""

    def __init__(self, origin: str) -> None:
        self._is_secure = origin.startswith("https:")
        self._name = f"__Host-{_NAME}" if self._is_secure else _NAME

    def value(self, request: Request) -> Secret | None:
        return secret_of(request.cookies.get(self._name, ""))

    def set(self, response: Response, secret: Secret) -> None:
        self._set(response, secret.reveal(), SESSION_LIFETIME)

    def clear(self, response: Response) -> None:
        self._set(response, "", 0)

    def _set(self, response: Response, value: str, seconds: int) -> None:
        response.set_cookie(
            self._name, value, max_age=seconds, path="/", secure=self._is_secure, httponly=True, samesite="strict"
        )
