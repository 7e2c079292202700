"""The application: sign-in, views and forms."""

import asyncio
import hmac
import secrets
from collections.abc import Callable, Mapping
from typing import Final
from urllib.parse import parse_qsl, quote

from msgspec.structs import replace
from starlette.requests import Request
from starlette.responses import RedirectResponse, Response
from starlette.routing import Route, Router
from starlette.types import ASGIApp, Receive, Scope, Send

from tokenferry.actions import ActionContext, LoginService, secret_of, status_of
from tokenferry.dashboard._assets import PREFIX, packaged_assets
from tokenferry.dashboard._cookie import SessionCookie
from tokenferry.dashboard._events import Events
from tokenferry.dashboard._sections import NAVIGATION, SECTIONS
from tokenferry.dashboard._templates import environment
from tokenferry.dashboard._views import Download, FormAction, Shown, View
from tokenferry.dashboard._visit import Visit, sentence
from tokenferry.errors import InvalidFields, TokenferryError
from tokenferry.gateway.http.errors import GatewayError
from tokenferry.secret import Secret
from tokenferry.state import DashboardSession, csrf_token

ROOT: Final = "/dashboard"
HOME: Final = f"{ROOT}/"
_MOST_FIELDS: Final = 200
_FOREIGN_FORM: Final = "This form is from another session; open the page again."
_NONCE_BYTES: Final = 18
_POLICY: Final = (
    "default-src 'none'; script-src 'self' 'nonce-{nonce}'; style-src 'self'; connect-src 'self'; "
    "img-src 'self' data:; form-action 'self'; base-uri 'none'; frame-ancestors 'none'; "
    "require-trusted-types-for 'script'; trusted-types htmx"
)
_FOREVER: Final = "public, max-age=31536000, immutable"
_HEADERS: Final = {
    "cross-origin-resource-policy": "same-origin",
    "referrer-policy": "same-origin",  # with `no-referrer` browsers send forms with `Origin: null`
}


class _Dashboard:
    def __init__(self, context: ActionContext, service: LoginService) -> None:
        self._context = context
        self._service = service
        self._assets = packaged_assets()
        self._templates = environment()

    def routes(self) -> list[Route]:
        views = [view for section in SECTIONS for view in section.views]
        actions = [action for section in SECTIONS for action in section.actions]
        return [
            Route("/", self._in_thread(self._lead), methods=["GET"]),
            Route("/login", self._in_thread(self._lead), methods=["GET"]),
            Route("/oauth/authorize", self._in_thread(self._lead), methods=["GET"]),
            Route(ROOT, self._in_thread(self._lead), methods=["GET"]),
            Route(f"{ROOT}/enter", self._in_thread(self._enter_page), methods=["GET"]),
            Route(f"{ROOT}/enter", self._in_thread(self._enter), methods=["POST"]),
            Route(f"{ROOT}/sign-in", self._in_thread(self._sign_in), methods=["POST"]),
            Route(f"{ROOT}/sign-out", self._in_thread(self._sign_out), methods=["POST"]),
            Route(f"{ROOT}/events", Events(self._context, self._session_of), methods=["GET"]),
            Route(PREFIX + "{name}", self._static, methods=["GET"]),
            *(Route(ROOT + view.path, self._in_thread(self._show, view), methods=["GET"]) for view in views),
            *(Route(ROOT + one.path, self._in_thread(self._act, one), methods=["POST"]) for one in actions),
        ]

    # -- views and actions

    def _show(self, request: Request, _: Mapping[str, str], view: View) -> Response:
        visit = self._admit(request)
        if isinstance(visit, Response):
            return visit
        if visit.session.role not in view.roles:
            return self._refusal(visit, 403, "Your key doesn't open this page.")
        self._context.state.sessions.seen(visit.session)
        return self._view(visit, view)

    def _act(self, request: Request, form: Mapping[str, str], action: FormAction) -> Response:
        visit = self._admit(request)
        if isinstance(visit, Response):
            return visit
        if not _has_token(form, visit.csrf):
            return self._refusal(visit, 403, _FOREIGN_FORM)
        if visit.session.role not in action.roles:
            return self._refusal(visit, 403, "Your key may only read; sign in with an admin key.")
        visit = replace(visit, form=form)
        try:
            done = action.act(visit)
        except TokenferryError as fault:
            wrong = fault.fields if isinstance(fault, InvalidFields) else {}
            return self._view(replace(visit, fault=sentence(str(fault)), wrong=wrong), action.view, status_of(fault))
        if isinstance(done, Shown):
            return self._page_of(visit, done.template, {"view": action.view, **done.variables})
        if done.message:
            self._context.state.sessions.leave_notice(visit.session.id, done.message)
        return RedirectResponse(done.url, 303, _HEADERS)

    def _view(self, visit: Visit, view: View, status: int = 200) -> Response:
        try:
            variables = view.show(visit)
        except TokenferryError as fault:
            return self._refusal(visit, status_of(fault), sentence(str(fault)))
        if isinstance(variables, Download):
            shown = {"content-disposition": f'attachment; filename="{variables.name}"', **_HEADERS}
            return Response(variables.content, headers=shown, media_type=variables.kind)
        notice = "" if visit.fault else self._context.state.sessions.take_notice(visit.session.id)
        return self._page_of(visit, view.template, {"view": view, "notice": notice, **variables}, status)

    def _refusal(self, visit: Visit, status: int, said: str) -> Response:
        return self._page_of(visit, "refused.html", {"view": None, "sentence": said}, status)

    def _page_of(self, visit: Visit, template: str, variables: Mapping[str, object], status: int = 200) -> Response:
        """Render a page for a signed-in visitor."""
        return self._page(template, status, {"visit": visit, "csrf": visit.csrf, "notice": "", **variables})

    def _page(self, template: str, status: int, variables: Mapping[str, object]) -> Response:
        nonce = secrets.token_urlsafe(_NONCE_BYTES)
        content = self._templates.get_template(template).render(
            nonce=nonce, navigation=NAVIGATION, root=ROOT, **variables
        )
        headers = {**_HEADERS, "content-security-policy": _POLICY.format(nonce=nonce)}
        return Response(content, status, headers, media_type="text/html")

    # -- sign-in

    def _admit(self, request: Request) -> Visit | Response:
        """Return the visit, or the sign-in page."""
        if (origin := _origin(request)) is None:
            return self._elsewhere()
        found, user = self._session_of(request), request.scope["state"].get("user")
        if found is None and user is not None:
            return self._begin_for(request, SessionCookie(origin), str(user))
        if found is None:
            if "hx-request" in request.headers:
                return Response(status_code=401, headers={"hx-refresh": "true", **_HEADERS})
            return self._sign_in_page(401, _page_asked(request))
        session, secret = found
        return Visit(
            self._context,
            self._service,
            session,
            csrf_token(secret),
            _page_asked(request),
            request.path_params,
            dict(request.query_params),
            loop=getattr(request.state, "loop", None),
        )

    def _session_of(self, request: Request) -> tuple[DashboardSession, Secret] | None:
        """Return the session of the request's cookie; one that a proxy started only for the same user."""
        origin = _origin(request)
        secret = None if origin is None else SessionCookie(origin).value(request)
        session = None if secret is None else self._context.state.sessions.find(secret)
        if session is None or secret is None:
            return None
        user = request.scope["state"].get("user")
        if session.way == "proxy":
            if session.name != user:
                return None
            session = replace(session, role=self._context.role_of(session.name))
        return session, secret

    def _begin_for(self, request: Request, cookie: SessionCookie, user: str) -> Response:
        """Sign in a trusted proxy's user, and redirect the browser so that it sends its cookie."""
        role = self._context.role_of(user)
        _, secret = self._context.state.sessions.begin(name=user, role=role, way="proxy", address=_address(request))
        response = RedirectResponse(_page_asked(request), 303, _HEADERS)
        cookie.set(response, secret)
        return response

    def _elsewhere(self) -> Response:
        """Answer a request to another name of the gateway."""
        return self._page("elsewhere.html", 421, {})

    def _sign_in_page(self, status: int, following: str, fault: str = "") -> Response:
        return self._page("sign_in.html", status, {"following": following, "fault": fault})

    def _sign_in(self, request: Request, form: Mapping[str, str]) -> Response:
        origin = _origin(request)
        if origin is None:
            return self._elsewhere()
        following = _own(form.get("following", ""))
        try:
            key = request.state.sign_in(form.get("key", ""))
        except GatewayError as error:
            return self._sign_in_page(error.status, following, sentence(error.message))
        begun = self._context.state.sessions.begin(
            name=key.name, role=key.role, way="key", key=key.id, address=_address(request)
        )
        return self._let_in(request, SessionCookie(origin), begun[1], following)

    def _enter_page(self, request: Request, _: Mapping[str, str]) -> Response:
        if _origin(request) is None:
            return self._elsewhere()
        return self._page("enter.html", 200, {"fault": ""})

    def _enter(self, request: Request, form: Mapping[str, str]) -> Response:
        origin = _origin(request)
        if origin is None:
            return self._elsewhere()
        code = secret_of(form.get("code", ""))
        sessions = self._context.state.sessions
        was_used = code is not None and sessions.was_used(code)
        begun = None if code is None else sessions.redeem(code, address=_address(request))
        if begun is None:
            said = (
                "This address was used before. In case another person has it, the session that it started was ended. "
                if was_used
                else "This address has expired; it works once, for a minute. "
            )
            return self._page("enter.html", 403, {"fault": f"{said}Open a new one with: tokenferry dashboard"})
        return self._let_in(request, SessionCookie(origin), begun[1], _own(form.get("following", "")))

    def _let_in(self, request: Request, cookie: SessionCookie, secret: Secret, following: str) -> Response:
        """Give the browser a new session, and end its former one."""
        if (former := self._session_of(request)) is not None:
            self._context.state.sessions.end(former[0].id)
        response = RedirectResponse(following, 303, _HEADERS)
        cookie.set(response, secret)
        return response

    def _sign_out(self, request: Request, form: Mapping[str, str]) -> Response:
        origin, found = _origin(request), self._session_of(request)
        response = RedirectResponse(HOME, 303, _HEADERS)
        if origin is not None and found is not None:
            if not _has_token(form, csrf_token(found[1])):
                return self._sign_in_page(403, HOME, _FOREIGN_FORM)
            self._context.state.sessions.end(found[0].id)
            SessionCookie(origin).clear(response)
        return response

    # -- the rest

    def _lead(self, request: Request, _: Mapping[str, str]) -> Response:
        """Redirect well-known addresses to their page."""
        if _origin(request) is None:
            return self._elsewhere()
        account = request.query_params.get("account", "")
        if request.url.path in {"/login", "/oauth/authorize"}:
            return RedirectResponse(f"{HOME}accounts/{quote(account, safe='')}" if account else f"{HOME}login", 303)
        return RedirectResponse(HOME, 303)

    async def _static(self, request: Request) -> Response:
        asset = self._assets.files.get(request.path_params["name"])
        if asset is None:
            return Response("no such file", 404, media_type="text/plain")
        headers = {**_HEADERS, "cache-control": _FOREVER, "vary": "accept-encoding", "content-type": asset.kind}
        if "gzip" in request.headers.get("accept-encoding", ""):
            return Response(asset.compressed, headers={**headers, "content-encoding": "gzip"})
        return Response(asset.content, headers=headers)

    def _in_thread(self, answer: Callable[..., Response], *more: object) -> Callable[[Request], object]:
        """Make an endpoint that reads the form and answers on a thread."""

        async def endpoint(request: Request) -> Response:
            request.state.loop = asyncio.get_running_loop()
            form: Mapping[str, str] = {}
            if request.method == "POST":
                form = _fields(await request.body())
            return await asyncio.to_thread(answer, request, form, *more)

        return endpoint


def make_app(context: ActionContext, service: LoginService) -> ASGIApp:
    """Make the application; templates are compiled at first use."""
    dashboard = _Dashboard(context, service)

    async def not_found(scope: Scope, receive: Receive, send: Send) -> None:
        def answer() -> Response:
            visit = dashboard._admit(Request(scope))  # noqa: SLF001  # of this module
            if isinstance(visit, Response):
                return visit
            return dashboard._refusal(visit, 404, "There is no such page.")  # noqa: SLF001  # as above

        await (await asyncio.to_thread(answer))(scope, receive, send)

    return Router(dashboard.routes(), redirect_slashes=False, default=not_found)


def _origin(request: Request) -> str | None:
    """Return the dashboard's origin; None for a request to another name of the gateway."""
    return getattr(request.state, "origin", None)


def _page_asked(request: Request) -> str:
    """Return path and query of the requested page; the first page for a form."""
    if request.method == "POST":
        return HOME
    raw_path: bytes = request.scope["raw_path"]
    query = request.url.query
    return raw_path.decode("ascii") + (f"?{query}" if query else "")


def _has_token(form: Mapping[str, str], token: str) -> bool:
    return hmac.compare_digest(form.get("csrf", "").encode(), token.encode())


def _own(url: str) -> str:
    """Return the path if it is one of the dashboard's, else the first page's."""
    return url if url.startswith(HOME) and "\\" not in url and url.isprintable() else HOME


def _address(request: Request) -> str:
    return "" if request.client is None else request.client.host


def _fields(body: bytes) -> dict[str, str]:
    try:
        return dict(parse_qsl(body.decode("utf-8"), keep_blank_values=True, max_num_fields=_MOST_FIELDS))
    except ValueError:
        return {}
