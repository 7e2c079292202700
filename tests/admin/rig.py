"""A gateway with the real API, broker and files, in a thread; a sandbox as the provider; a client and a browser."""

import json
import secrets
import threading
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from functools import partial
from typing import Any, Final
from urllib.parse import parse_qs, urlencode, urljoin, urlsplit

import httpx2

from tokenferry.actions import LOGIN_PAGE, ActionContext, LoginService
from tokenferry.admin import make_api
from tokenferry.broker import Broker
from tokenferry.config import load
from tokenferry.dashboard import make_dashboard
from tokenferry.gateway import (
    BaseLifespan,
    ControlApplications,
    DashboardGuard,
    EphemeralKey,
    Forwarder,
    Gateway,
    Guard,
    LazyApplication,
    Server,
    TrustedProxies,
    UpstreamClients,
    bind,
    own_hosts,
)
from tokenferry.readiness import account_rows
from tokenferry.secret import Secret
from tokenferry.serve._parts import explainer_of, readiness_of, running_of
from tokenferry.settings import Home, RouterSettings
from tokenferry.state import Role, State

PATIENCE: Final = 60.0
IDP: Final = """
[[providers]]
name = "idp"
base_url = "{url}"
auth_type = "oauth"

[providers.oauth]
issuer = "{url}"
client_id = "idp-client"
scopes = ["user:profile", "user:inference"]
"""


@dataclass
class Api:
    url: str
    home: Home
    broker: Broker
    state: State
    admin: str = field(repr=False)
    provider: str = ""
    origin: str = ""
    """Of the dashboard."""

    def call(
        self, method: str, path: str, body: object = None, *, key: str | None = None, **more: Any
    ) -> httpx2.Response:
        key = self.admin if key is None else key
        headers = {"authorization": f"Bearer {key}"} if key else {}
        if "content" in more:
            headers["content-type"] = "application/json"
        given: dict[str, Any] = {} if body is None else {"json": body}
        with httpx2.Client(base_url=self.url, timeout=PATIENCE, trust_env=False, verify=False) as client:
            return client.request(method, path, headers=headers, **given, **more)

    def get(self, path: str, **more: Any) -> httpx2.Response:
        return self.call("GET", path, **more)

    def post(self, path: str, body: object = None, **more: Any) -> httpx2.Response:
        return self.call("POST", path, body, **more)

    def begin(self, oauth_type: str = "sandbox", **more: Any) -> dict[str, Any]:
        answer = self.post("/api/oauth/authorize", {"oauth_type": oauth_type, **more.pop("fields", {})}, **more)
        assert answer.status_code == 200, answer.text
        begun: dict[str, Any] = answer.json()
        return begun

    def exchange(self, code: str, name: str, **more: Any) -> httpx2.Response:
        return self.post("/api/oauth/exchange", {"code": code, "provider_id": name}, **more)

    def log_in(self, name: str, account: str = "alice") -> dict[str, Any]:
        """A login at the sandbox from its beginning to its end."""
        answer = self.exchange(code_of(self.begin()["url"], account), name)
        assert answer.status_code == 200, answer.text
        done: dict[str, Any] = answer.json()
        return done

    def audit(self) -> list[dict[str, Any]]:
        lines = self.home.audit.read_text().splitlines() if self.home.audit.exists() else []
        return [json.loads(line) for line in lines]


def refused(answer: httpx2.Response, status: int) -> str:
    """The sentence of a refusal."""
    assert answer.status_code == status, answer.text
    document = answer.json()
    assert set(document) == {"success", "message"}
    assert document["success"] is False
    assert answer.headers["cache-control"] == "no-store"
    assert answer.headers["x-content-type-options"] == "nosniff"
    return str(document["message"])


def with_query(url: str, **more: str) -> str:
    return f"{url}&{urlencode(more)}"


def code_of(url: str, account: str = "alice") -> str:
    """Log in at the sandbox's page as a person does, and give what its last page shows: `CODE#STATE`."""
    with httpx2.Client(follow_redirects=True, timeout=PATIENCE, trust_env=False, verify=False) as browser:
        page = browser.get(with_query(url, login_hint=account))
        query = parse_qs(urlsplit(str(page.url)).query)
        return f"{query['code'][0]}#{query['state'][0]}"


class Browser:
    """Follows redirects one by one, and keeps cookies as a browser does."""

    def __init__(self, account: str = "alice") -> None:
        self.cookies = httpx2.Cookies()
        self.account = account

    def get(self, url: str, headers: Mapping[str, str] | None = None) -> httpx2.Response:
        with httpx2.Client(cookies=self.cookies, timeout=PATIENCE, trust_env=False, verify=False) as client:
            answer = client.get(url, headers=dict(headers or {}))
            self.cookies = client.cookies
        return answer

    def open(self, url: str, headers: Mapping[str, str] | None = None) -> httpx2.Response:
        answer = self.get(url, headers)
        while answer.status_code in {302, 303}:
            url = urljoin(url, answer.headers["location"])
            answer = self.get(with_query(url, login_hint=self.account) if "/oauth/authorize?" in url else url)
        return answer


@contextmanager
def running_api(
    home: Home,
    provider: str,
    *,
    config: str = "",
    port: int = 0,
    user_header: bytes | None = None,
    proxies: TrustedProxies | None = None,
) -> Iterator[Api]:
    home.config.write_text(
        f'[[providers]]\nname = "sandbox"\nbase_url = "{provider}"\n{IDP.format(url=provider)}{config}'
    )
    home.config.chmod(0o600)
    settings = load(home.config, statement=home.statement)
    broker = Broker.from_home(home, settings)
    sock = bind("127.0.0.1", port)
    port = sock.getsockname()[1]
    url, hosts = f"http://127.0.0.1:{port}", own_hosts("127.0.0.1", port, ())
    broker.login_page = url + LOGIN_PAGE
    with State(home.state) as state:

        def states() -> Mapping[str, str]:
            return {row.name: row.state for row in account_rows(broker)}

        def role_of(user: str) -> Role:
            return "admin" if user == "root@example.com" else "viewer"

        secret = Secret(secrets.token_urlsafe(32))
        explain = explainer_of(home, lambda: gateway, broker, state, states, worker=None)
        readiness = readiness_of([settings], broker, state, states)
        parts = ActionContext(
            *(home, broker, state, secret, (url,), hosts, states),
            explain=explain,
            role_of=role_of,
            readiness=readiness,
            running=running_of(lambda: gateway, None),
        )
        service, upstreams = LoginService(parts), UpstreamClients()
        origin = f"http://tf-{state.sessions.label()}.localhost:{port}"
        gateway = Gateway(
            guard=Guard(state.keys, hosts, dashboard=DashboardGuard(origin, user_header), proxies=proxies),
            forwarder=Forwarder(source=broker, settings=RouterSettings(), keys=EphemeralKey(), upstreams=upstreams),
            control=ControlApplications(
                LazyApplication(partial(make_api, parts, service)),
                LazyApplication(partial(make_dashboard, parts, service)),
            ),
        )
        running = threading.Event()

        class RigLifespan(BaseLifespan):
            async def started(self) -> None:
                running.set()

            async def finish(self) -> None:
                await upstreams.aclose()

        listener = Server(gateway, [sock], lifespan=RigLifespan(), drain=PATIENCE)
        thread = threading.Thread(target=listener.run_until_stopped, name="gateway under test")
        thread.start()
        try:
            assert running.wait(PATIENCE)
            _, admin = state.keys.create("boss", role="admin")
            yield Api(url, home, broker, state, admin.reveal(), provider, origin)
        finally:
            listener.stop()
            thread.join()
            broker.drain(PATIENCE)
