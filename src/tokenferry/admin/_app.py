"""The application: finds a request's operation, decodes its input, and encodes its answer or error."""

import asyncio
import inspect
import math
import re
from collections.abc import Callable, Mapping
from typing import Any, Final

import msgspec
from starlette.requests import Request
from starlette.responses import Response
from starlette.types import ASGIApp, Receive, Scope, Send

from tokenferry.actions import AccountReplaced, ActionContext, LoginService, Refused, status_of
from tokenferry.admin._callback import Pages
from tokenferry.admin._openapi import DESCRIPTION, description
from tokenferry.admin._operations import OPERATIONS, Operation
from tokenferry.errors import TokenferryError, TryLater, UsageError
from tokenferry.readiness import RouteQuestion
from tokenferry.secret import Secret
from tokenferry.state import ClientKey

_ENUM: Final = re.compile(r"Invalid enum value .* - at `\$\.(\w+)`", re.DOTALL)
_WHERE: Final = re.compile(r"(?P<what>.*) - at `(?:\$|key)(?P<path>[^`]*)`", re.DOTALL)
_MISSING: Final = re.compile(r"Object missing required field `(\w+)`")
_NO_OBJECT: Final = re.compile(r"Expected `object`, got `\w+`")


class _Api:
    def __init__(self, context: ActionContext, service: LoginService) -> None:
        self._context = context
        self._service = service
        pages = Pages(service, status_of)
        operations = [(one.method, one.path, self._of(one)) for one in OPERATIONS]
        others: list[tuple[str, str, Callable[[Request, bytes], Any]]] = [
            ("GET", "/api/readiness", lambda request, _: _json(context.readiness(_key(request)))),
            ("POST", "/api/route", self._explain),
            ("GET", DESCRIPTION, lambda *_: _json(description())),
            ("GET", "/oauth/callback", lambda request, _: pages.callback(request)),
            ("GET", "/login", lambda request, _: pages.login_page(request)),
            ("GET", "/oauth/authorize", lambda request, _: pages.login_page(request)),
        ]
        self._routes: dict[re.Pattern[str], dict[str, Callable[[Request, bytes], Any]]] = {}
        for method, path, answer in (*operations, *others):
            pattern = re.compile(re.sub(r"\\{\w+\\}", "(?P<name>[^/]+)", re.escape(path)))
            self._routes.setdefault(pattern, {})[method] = answer

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        request = Request(scope, receive)
        try:
            response = await self._answer(request)
        except TokenferryError as fault:
            headers = {}
            if isinstance(fault, TryLater):
                headers["retry-after"] = str(max(1, math.ceil(fault.retry_after or 1)))
            response = _refused(status_of(fault), str(fault), headers)
        await response(scope, receive, send)

    async def _answer(self, request: Request) -> Response:
        path = request.scope["path"]
        found = next(
            ((match, methods) for pattern, methods in self._routes.items() if (match := pattern.fullmatch(path))), None
        )
        if found is None:
            return _refused(404, f"this gateway has no such path; its API is described at {DESCRIPTION}")
        match, methods = found
        request.scope["path_params"] = match.groupdict()
        answer = methods.get(request.method)
        if answer is None:
            allowed = ", ".join(sorted(methods))
            return _refused(405, f"this path takes {allowed} only", {"allow": allowed})
        body = await request.body()
        if inspect.iscoroutinefunction(answer):
            response: Response = await answer(request, body)
        else:
            response = await asyncio.to_thread(answer, request, body)
        return response

    def _of(self, operation: Operation) -> Callable[[Request, bytes], Response]:
        """Make the function that carries out an operation and answers it, on a thread."""

        def answer(request: Request, body: bytes) -> Response:
            given: dict[str, object] = {"context": self._context, "service": self._service, "by": _key(request)}
            given |= request.path_params
            if operation.takes is not None:
                is_default = operation.may_be_empty and body.strip() in {b"", b"null"}
                given["asked"] = operation.takes() if is_default else decode(body, operation.takes)
            done = operation.action(**{name: value for name, value in given.items() if name in operation.parameters})
            status = 200 if isinstance(done, AccountReplaced) else operation.status
            return _json(_without_none(msgspec.to_builtins(done)) if operation.omits_none else done, status)

        return answer

    async def _explain(self, request: Request, body: bytes) -> Response:
        """Explain where a request would go, by this worker's pool; nothing is sent. Commands use it, too."""
        return _json(await self._context.explain(_key(request), decode(body, RouteQuestion)))


def make_app(context: ActionContext, service: LoginService) -> ASGIApp:
    return _Api(context, service)


def decode(body: bytes, kind: Any) -> Any:
    """Decode a JSON body. Raises `UsageError`, which never quotes the body: it may be a secret."""
    try:
        return msgspec.json.decode(body, type=kind, dec_hook=_secret)
    except msgspec.ValidationError as fault:
        problem = _problem(str(fault))
    except (msgspec.DecodeError, ValueError, RecursionError):
        problem = "the body is not valid JSON"
    raise UsageError(problem)


def _secret(kind: type, value: object) -> Secret:
    if kind is not Secret or not isinstance(value, str):
        raise ValueError("must be text")
    return Secret(value.strip())


def _problem(said: str) -> str:
    if _NO_OBJECT.fullmatch(said):
        return "the body must be a JSON object"
    if found := _ENUM.fullmatch(said):
        return f"{found[1]}: must be one of those that {DESCRIPTION} lists"
    if found := _MISSING.match(said):
        return f"{found[1]}: field required"
    if found := _WHERE.fullmatch(said):
        what = found["what"]
        return f"{found['path'].strip('.') or 'a name'}: {what[:1].lower()}{what[1:]}"
    return said[:1].lower() + said[1:]


def _key(request: Request) -> ClientKey:
    key = request.scope["state"]["client_key"]
    assert isinstance(key, ClientKey)
    return key


def _refused(status: int, message: str, headers: Mapping[str, str] | None = None) -> Response:
    return _json(Refused(message=message), status, headers)


def _json(value: object, status: int = 200, headers: Mapping[str, str] | None = None) -> Response:
    return Response(msgspec.json.encode(value), status, headers, media_type="application/json")


def _without_none(value: Any) -> Any:
    if isinstance(value, dict):
        return {name: _without_none(one) for name, one in value.items() if one is not None}
    return [_without_none(one) for one in value] if isinstance(value, list) else value
