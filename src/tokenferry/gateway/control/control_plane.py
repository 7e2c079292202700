"""The control plane: requests for an ASGI application behind the gateway's guard."""

import asyncio
import json
from collections.abc import Awaitable, Callable
from functools import partial
from typing import Any, Final, TypeAlias

from tokenferry.gateway.auth.dashboard_guard import is_dashboard
from tokenferry.gateway.auth.guard import Guard, UnknownKey
from tokenferry.gateway.http.errors import REQUEST_ID, GatewayError
from tokenferry.gateway.http.headers import Header
from tokenferry.gateway.proxy.body import BodyBudget, Message, Receive, RequestBody, Scope, Send, read_body, too_large
from tokenferry.gateway.routes import CONSTANTS, OLLAMA
from tokenferry.gateway.telemetry.record import RequestRecord
from tokenferry.state import Role

Control: TypeAlias = Callable[[Scope, Receive, Send], Awaitable[None]]
"""An ASGI application. `scope["state"]["client_key"]` is the caller's `ClientKey`; None if no key is needed."""

_ENTRANCES: Final = frozenset((b"/", b"/login", b"/oauth/authorize"))
"""Paths that lead to the dashboard, at its own host."""
_PAGES: Final = frozenset((b"/login", b"/oauth/authorize", b"/oauth/callback"))
"""Pages for a person's browser, without a key and from any site."""
_STATIC: Final = b"/dashboard/static/"
BODY_LIMIT: Final = 1 << 20
_IS_NAVIGATION: Final = (b"sec-fetch-mode", b"navigate")

_READING: Final = frozenset(("GET", "HEAD"))
_READERS: Final[tuple[Role, ...]] = ("admin", "viewer")
_WRITERS: Final[tuple[Role, ...]] = ("admin",)
_CLIENTS: Final[tuple[Role, ...]] = ("client",)
_OWN_VIEWS: Final[dict[bytes, tuple[Role, ...]]] = {
    b"/api/readiness": _CLIENTS,
    b"/api/route": (*_CLIENTS, *_READERS),
}
"""Paths that show a client what its own key may use, so they accept a client key."""
_DESCRIPTION: Final = b"/openapi.json"
_CREDENTIALS: Final = frozenset((b"authorization", b"x-api-key"))
_HEADERS: Final = (
    (b"cache-control", b"no-store"),
    (
        b"content-security-policy",
        b"default-src 'none'; base-uri 'none'; form-action 'none'; frame-ancestors 'none'",
    ),
    (b"cross-origin-opener-policy", b"same-origin"),
    (b"referrer-policy", b"no-referrer"),
    (b"x-content-type-options", b"nosniff"),
)


class TrackedSend:
    """Sends an answer and records size and times. `clock` gives seconds."""

    __slots__ = ("_clock", "_record", "_send", "_started", "is_started")

    def __init__(self, send: Send, record: RequestRecord, clock: Callable[[], float]) -> None:
        self._send = send
        self._record = record
        self._clock = clock
        self._started = clock()
        self.is_started = False

    async def head(self, status: int, headers: list[Header]) -> None:
        record = self._record
        self.is_started = True
        record.status = status
        record.first_byte = self._clock() - self._started
        headers = [*headers, (REQUEST_ID, record.request_id.encode("ascii"))]
        await self._send({"type": "http.response.start", "status": status, "headers": headers})

    async def body(self, chunk: bytes) -> None:
        self._record.bytes_out += len(chunk)
        await self._send({"type": "http.response.body", "body": chunk, "more_body": True})

    async def end(self, chunk: bytes = b"") -> None:
        self._record.bytes_out += len(chunk)
        await self._send({"type": "http.response.body", "body": chunk, "more_body": False})

    def close(self) -> None:
        """Record the duration at the end of the answer."""
        self._record.duration = self._clock() - self._started


def is_control(raw_path: bytes) -> bool:
    """Whether a raw path belongs to the control plane."""
    if raw_path.startswith(b"/api/"):
        return raw_path not in CONSTANTS and raw_path not in OLLAMA
    return raw_path in _PAGES or raw_path == _DESCRIPTION or is_dashboard(raw_path)


def error_answer(error: GatewayError, raw_path: bytes) -> tuple[list[Header], bytes]:
    """Give headers and content of an error in the application's own form: JSON, or a page for people."""
    if not is_dashboard(raw_path):
        content = json.dumps({"success": False, "message": error.message}).encode("ascii")
        return [*error.head(len(content)), *_HEADERS], content
    from html import escape  # noqa: PLC0415  # takes 2 ms, and only errors need it

    text = escape(f"{error.message[:1].upper()}{error.message[1:]}.")
    content = f"<!doctype html><meta charset=utf-8><title>tokenferry</title><p>{text}</p>\n".encode()
    head = [header for header in error.head(len(content)) if header[0] != b"content-type"]
    return [*head, (b"content-type", b"text/html; charset=utf-8"), *_HEADERS], content


def _roles_for(scope: Scope) -> tuple[Role, ...]:
    own = _OWN_VIEWS.get(scope["raw_path"])
    return own or (_READERS if scope["method"] in _READING else _WRITERS)


class ControlPlane:
    """Passes whole requests that the guard admits to the application, without their key.

    A client's disconnect does not stop the application, which may be exchanging a token.
    """

    def __init__(self, application: Control, guard: Guard, budget: BodyBudget) -> None:
        self._application = application
        self._guard = guard
        self._budget = budget

    def owns(self, scope: Scope) -> bool:
        """Whether it answers a request: by its path, or because a person opened the dashboard's own host."""
        raw_path, headers, dashboard = scope["raw_path"], scope["headers"], self._guard.dashboard
        if raw_path != b"/":
            return is_control(raw_path) and (dashboard is not None or not is_dashboard(raw_path))
        return dashboard is not None and dashboard.is_own_host(headers) and _IS_NAVIGATION in headers

    async def serve(
        self,
        scope: Scope,
        receive: Receive,
        out: TrackedSend,
        record: RequestRecord,
        *,
        address: str | None,
        on_unix_socket: bool,
    ) -> None:
        """Answer a request. Raises `GatewayError`, `ClientGone`, and what the application raises."""
        headers: list[Header] = scope["headers"]
        admit = partial(self._admit, scope, address, on_unix_socket=on_unix_socket)
        try:
            state = admit()
        except UnknownKey as refusal:
            await self._guard.look_up(refusal, headers)
            state = admit()
        if (key := state["client_key"]) is not None:
            record.client = key.name
        if _length(headers) > BODY_LIMIT:
            raise too_large(BODY_LIMIT)
        body = RequestBody(self._budget)
        try:
            await read_body(receive, body, BODY_LIMIT)
            record.bytes_in = body.size
            inner = {name: scope[name] for name in ("type", "http_version", "method", "scheme", "path", "raw_path")}
            inner |= {
                "asgi": {"version": "3.0", "spec_version": "2.4"},
                "root_path": "",
                "query_string": scope["query_string"],
                "headers": [header for header in headers if header[0] not in _CREDENTIALS],
                "client": scope.get("client"),
                "server": scope.get("server"),
                "state": state,
            }
            await self._application(inner, _Received(body, receive), _Sent(out))
        finally:
            body.release()

    def _admit(self, scope: Scope, address: str | None, *, on_unix_socket: bool) -> dict[str, Any]:
        """Check a request, and give the state for the application. Raises `GatewayError`."""
        headers: list[Header] = scope["headers"]
        raw_path: bytes = scope["raw_path"]
        guard, dashboard, is_dashboards = self._guard, self._guard.dashboard, is_dashboard(raw_path)
        if dashboard is not None and (is_dashboards or raw_path in _ENTRANCES) and dashboard.is_own_host(headers):
            if is_dashboards:
                dashboard.check(scope["method"], raw_path, headers)
            else:
                guard.check_person(headers)
            sign_in = partial(guard.check_typed_key, headers, address, asyncio.get_running_loop())
            header = dashboard.user_header
            user = None if header is None else guard.user_of_proxy(headers, address, header)
            return {"client_key": None, "origin": dashboard.origin, "sign_in": sign_in, "user": user}
        if raw_path in _PAGES or (is_dashboards and not raw_path.startswith(_STATIC)):
            guard.check_navigation(headers, on_unix_socket=on_unix_socket)
            return {"client_key": None}
        guard.check_source(headers, on_unix_socket=on_unix_socket)
        if is_dashboards:  # static files of the page that shows the command
            return {"client_key": None}
        guard.check_json(headers)
        return {"client_key": guard.check_key(headers, address, roles=_roles_for(scope))}


class _Received:
    """Gives the whole body at once, then the messages after it."""

    def __init__(self, body: RequestBody, receive: Receive) -> None:
        self._body: RequestBody | None = body
        self._receive = receive

    async def __call__(self) -> Message:
        body, self._body = self._body, None
        if body is None:
            return await self._receive()
        return {"type": "http.request", "body": b"".join(body.chunks), "more_body": False}


class _Sent:
    """Passes the application's answer on, with the headers of the control plane."""

    def __init__(self, out: TrackedSend) -> None:
        self._out = out

    async def __call__(self, message: Message) -> None:
        content: Any = message.get("body", b"")
        if message["type"] == "http.response.start":
            headers = [(name.lower(), value) for name, value in message.get("headers", ())]
            present = {name for name, _ in headers}
            headers += [header for header in _HEADERS if header[0] not in present]
            await self._out.head(message["status"], headers)
        elif message.get("more_body", False):
            await self._out.body(content)
        else:
            await self._out.end(content)


def _length(headers: list[Header]) -> int:
    """Give the declared length of the body, which the parser has validated."""
    return next((int(value) for name, value in headers if name == b"content-length"), 0)
