"""The application: its routes, how a fault is answered, and its description (OpenAPI)."""

import math
import re
from importlib.metadata import version
from typing import Any, ClassVar, Final

from fastapi import FastAPI, Request
from fastapi.exceptions import RequestValidationError
from fastapi.responses import JSONResponse
from starlette.exceptions import HTTPException
from starlette.responses import Response

from tokenferry.actions import ActionContext, LoginService, status_of
from tokenferry.admin._accounts import account_routes
from tokenferry.admin._callback import callback_routes
from tokenferry.admin._cooldowns import cooldown_routes
from tokenferry.admin._keys import key_routes
from tokenferry.admin._logins import login_routes
from tokenferry.admin._models import Refused
from tokenferry.admin._tokens import token_routes
from tokenferry.errors import (
    TokenferryError,
    TryLater,
)

_DESCRIPTION: Final = "/openapi.json"
_WORDS: Final = {
    400: "The request, its state or its code can't be used.",
    401: "No key, or a bad one.",
    403: "The key is no admin key, policy rules against it, or a page of another site asks.",
    404: "There is nothing of that name.",
    409: "It stands against what is there: the name is taken, or the login is dead.",
    413: "The body is larger than 1 MiB.",
    415: "The body is no JSON.",
    421: "The Host is not this gateway's.",
    429: "Too many bad keys.",
    500: "A file can't be read or written, or there is a defect.",
    503: "Nothing is lost; the same request may succeed later.",
}
_ABOUT: Final = (
    "Send an admin key (`tokenferry key create NAME --role admin`) as a Bearer token or in x-api-key; a viewer key is "
    "enough for GET. Times are RFC 3339, in UTC. Secrets are shown as fingerprints."
)


class _Application(FastAPI):
    """Describes itself once a process: that takes most of the time in which it is made, and all say the same."""

    _described: ClassVar[dict[str, Any]] = {}

    def openapi(self) -> dict[str, Any]:
        if not self._described:
            self._described.update(_complete(super().openapi()))
        return self._described


def make_app(parts: ActionContext, service: LoginService) -> FastAPI:
    """The application, with its description made already."""
    app = _Application(
        title="tokenferry",
        description=_ABOUT,
        version=version("tokenferry"),
        openapi_url=_DESCRIPTION,
        docs_url=None,
        redoc_url=None,
        redirect_slashes=False,
        generate_unique_id_function=lambda route: route.name,
        responses={status: {"model": Refused, "description": words} for status, words in _WORDS.items()},
        exception_handlers={
            TokenferryError: _of_fault,
            RequestValidationError: _of_input,
            HTTPException: _of_framework,
        },
    )
    app.include_router(login_routes(service))
    app.include_router(token_routes(parts))
    app.include_router(account_routes(parts, service))
    app.include_router(cooldown_routes(parts))
    app.include_router(key_routes(parts))
    app.include_router(callback_routes(service, status_of))
    app.openapi()
    return app


def refused(status: int, message: str, headers: dict[str, str] | None = None) -> JSONResponse:
    return JSONResponse(Refused(message=message).model_dump(), status, headers)


async def _of_fault(_: Request, fault: Exception) -> Response:
    assert isinstance(fault, TokenferryError)
    headers = {}
    if isinstance(fault, TryLater):
        headers["retry-after"] = str(max(1, math.ceil(fault.retry_after or 1)))
    return refused(status_of(fault), str(fault), headers)


async def _of_input(_: Request, fault: Exception) -> Response:
    """Say what is wrong and where, but never quote what was sent: it may be a secret in the wrong place."""
    assert isinstance(fault, RequestValidationError)
    problems = [_problem(error) for error in fault.errors()]
    return refused(400, "; ".join(dict.fromkeys(problems)) or "the request can't be understood")


def _problem(error: dict[str, Any]) -> str:
    where, *path = error["loc"]
    if error["type"] == "json_invalid":
        return "the body is no JSON"
    if where == "body" and not path:
        return "the body must be a JSON object"
    said = str(error["msg"])
    return f"{'.'.join(map(str, path))}: {said[:1].lower()}{said[1:]}"


async def _of_framework(request: Request, fault: Exception) -> Response:
    assert isinstance(fault, HTTPException)
    if fault.status_code == 404:  # noqa: PLR2004  # the standard's number
        return refused(404, "this gateway has no such path; its API is described at /openapi.json")
    if fault.status_code == 405:  # noqa: PLR2004  # see above
        methods = _methods(request.app.openapi(), request.url.path)
        return refused(405, f"this path takes {methods} only", {"allow": methods})
    return refused(400, "the request can't be understood")


def _methods(description: dict[str, Any], path: str) -> str:
    """What a path takes, all of it: the framework names the methods of one operation alone."""
    if path == _DESCRIPTION:
        return "GET"
    templates = [
        one for one in description["paths"] if re.fullmatch(re.sub(r"\\{.*?\\}", "[^/]+", re.escape(one)), path)
    ]
    return ", ".join(sorted(method.upper() for one in templates for method in description["paths"][one]))


def _complete(description: dict[str, Any]) -> dict[str, Any]:
    """Bring the description, which the framework keeps, to what is so: no 422, and a key for all but the callback."""
    schemas = description["components"]["schemas"]
    for unused in ("HTTPValidationError", "ValidationError"):
        schemas.pop(unused, None)
    description["components"]["securitySchemes"] = {
        "bearer": {"type": "http", "scheme": "bearer"},
        "header": {"type": "apiKey", "in": "header", "name": "x-api-key"},
    }
    for path, operations in description["paths"].items():
        for operation in operations.values():
            operation["responses"].pop("422", None)
            if path.startswith("/api/"):
                operation["security"] = [{"bearer": []}, {"header": []}]
    return description
