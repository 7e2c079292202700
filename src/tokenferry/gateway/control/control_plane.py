"""The control plane: what an application beside the gateway answers, behind the gateway's guard."""

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
"""An ASGI application. `scope["state"]["client_key"]` is the `ClientKey` of who asks; None at what needs no key."""

_LEADING: Final = frozenset((b"/", b"/login", b"/oauth/authorize"))
"""Where a person is led to the dashboard, at its own name."""
_PAGES: Final = frozenset((b"/login", b"/oauth/authorize", b"/oauth/callback"))
"""What a person's browser is led to: no key, and from whichever site."""
_STATIC: Final = b"/dashboard/static/"
BODY_LIMIT: Final = 1 << 20
_IS_NAVIGATION: Final = (b"sec-fetch-mode", b"navigate")

_READING: Final = frozenset(("GET", "HEAD"))
_READERS: Final[tuple[Role, ...]] = ("admin", "viewer")
_WRITERS: Final[tuple[Role, ...]] = ("admin",)
_CLIENTS: Final[tuple[Role, ...]] = ("client",)
_OF_ONES_OWN: Final[dict[bytes, tuple[Role, ...]]] = {
    b"/api/readiness": _CLIENTS,
    b"/api/route": (*_CLIENTS, *_READERS),
}
"""Paths that tell a client what its own key would be served, so they take a client key."""
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
    """The client's side of one exchange. The record notes what goes out, and when; `clock` gives seconds."""

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
        """Nothing more goes out."""
        self._record.duration = self._clock() - self._started


def is_control(raw_path: bytes) -> bool:
    """Tell whether a path, as it was sent, belongs to the control plane."""
    if raw_path.startswith(b"/api/"):
        return raw_path not in CONSTANTS and raw_path not in OLLAMA
    return raw_path in _PAGES or raw_path == _DESCRIPTION or is_dashboard(raw_path)


def error_answer(error: GatewayError, raw_path: bytes) -> tuple[list[Header], bytes]:
    """The head and the content of a refusal, as the application itself words them; a page for people."""
    if not is_dashboard(raw_path):
        content = json.dumps({"success": False, "message": error.message}).encode("ascii")
        return [*error.head(len(content)), *_HEADERS], content
    from html import escape  # noqa: PLC0415  # 2 ms that a start is spared

    said = escape(f"{error.message[:1].upper()}{error.message[1:]}.")
    content = f"<!doctype html><meta charset=utf-8><title>tokenferry</title><p>{said}</p>\n".encode()
    head = [header for header in error.head(len(content)) if header[0] != b"content-type"]
    return [*head, (b"content-type", b"text/html; charset=utf-8"), *_HEADERS], content


def _roles_for(scope: Scope) -> tuple[Role, ...]:
    own = _OF_ONES_OWN.get(scope["raw_path"])
    return own or (_READERS if scope["method"] in _READING else _WRITERS)


class ControlPlane:
    """Lets through to the application what the guard allows, one whole request at a time, without its key.

    A client that leaves doesn't end the application's work: that may be an exchange, which can't be repeated.
    """

    def __init__(self, application: Control, guard: Guard, budget: BodyBudget) -> None:
        self._application = application
        self._guard = guard
        self._budget = budget

    def owns(self, scope: Scope) -> bool:
        """Whether it answers this request: by its path, or a person's who opened the dashboard's own name."""
        raw_path, headers, dashboard = scope["raw_path"], scope["headers"], self._guard.dashboard
        if raw_path != b"/":
            return is_control(raw_path) and (dashboard is not None or not is_dashboard(raw_path))
        return dashboard is not None and dashboard.is_its_host(headers) and _IS_NAVIGATION in headers

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
        """Raises `GatewayError`, `ClientGone`, and what the application raises."""
        headers: list[Header] = scope["headers"]
        admitted = partial(self._admitted, scope, address, on_unix_socket=on_unix_socket)
        try:
            state = admitted()
        except UnknownKey as refusal:
            await self._guard.look_up(refusal, headers)
            state = admitted()
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

    def _admitted(self, scope: Scope, address: str | None, *, on_unix_socket: bool) -> dict[str, Any]:
        """The scope that the application gets for a request that may pass. Raises `GatewayError`."""
        headers: list[Header] = scope["headers"]
        raw_path: bytes = scope["raw_path"]
        guard, dashboard, is_its = self._guard, self._guard.dashboard, is_dashboard(raw_path)
        if dashboard is not None and (is_its or raw_path in _LEADING) and dashboard.is_its_host(headers):
            if is_its:
                dashboard.check(scope["method"], raw_path, headers)
            else:
                guard.check_person(headers)
            sign_in = partial(guard.check_typed_key, headers, address, asyncio.get_running_loop())
            header = dashboard.user_header
            user = None if header is None else guard.user_of_proxy(headers, address, header)
            return {"client_key": None, "origin": dashboard.origin, "sign_in": sign_in, "user": user}
        if raw_path in _PAGES or (is_its and not raw_path.startswith(_STATIC)):
            guard.check_navigation(headers, on_unix_socket=on_unix_socket)
            return {"client_key": None}
        guard.check_source(headers, on_unix_socket=on_unix_socket)
        if is_its:  # what the page that names the command loads
            return {"client_key": None}
        guard.check_json(headers)
        return {"client_key": guard.check_key(headers, address, roles=_roles_for(scope))}


class _Received:
    """Gives the whole body at once, then what follows it."""

    def __init__(self, body: RequestBody, receive: Receive) -> None:
        self._body: RequestBody | None = body
        self._receive = receive

    async def __call__(self) -> Message:
        body, self._body = self._body, None
        if body is None:
            return await self._receive()
        return {"type": "http.request", "body": b"".join(body.chunks), "more_body": False}


class _Sent:
    """Passes the application's answer on, with the headers that every answer of the control plane has."""

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
    """The declared length of the body; the parser made sure that it is one number."""
    return next((int(value) for name, value in headers if name == b"content-length"), 0)
