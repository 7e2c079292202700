"""Who is let in behind a reverse proxy that names its users, and where the dashboard is for other configurations."""

from collections.abc import Iterator

import pytest

from admin.rig import Api, running_api
from dashboard.person import Person, hidden
from tokenferry.config import Config
from tokenferry.gateway import Listening, TrustedProxies
from tokenferry.sandbox import Sandbox
from tokenferry.serve._dashboard import dashboard_origin, role_of
from tokenferry.settings import DashboardSettings, Home, ServerSettings
from tokenferry.state import State

ROOT = {"x-forwarded-user": "root@example.com"}


@pytest.fixture
def proxied(home: Home, sandbox: Sandbox) -> Iterator[Api]:
    """The proxy is on this machine, and trusted."""
    with running_api(home, sandbox.url, user_header=b"x-forwarded-user", proxies=TrustedProxies(["127.0.0.1"])) as api:
        yield api


def let_in(api: Api, user: str) -> Person:
    person = Person(api)
    assert person.send("GET", "/dashboard/", headers={"x-forwarded-user": user}).status_code == 303
    assert person.cookie
    return person


def test_a_user_of_a_trusted_proxy_is_signed_in_with_their_role(proxied: Api) -> None:
    for user, role in (("root@example.com", "admin"), ("somebody@example.com", "viewer")):
        person = let_in(proxied, user)
        page = person.send("GET", "/dashboard/", headers={"x-forwarded-user": user})
        assert page.status_code == 200
        assert f"{user}<small>{role}</small>" in page.text


def test_the_session_is_good_for_that_user_alone(proxied: Api) -> None:
    person = let_in(proxied, "root@example.com")
    assert person.open("/dashboard/").status_code == 401
    page = person.send("GET", "/dashboard/", headers={"x-forwarded-user": "somebody@example.com"})
    assert page.status_code == 303, "another person at the same browser"


def test_two_users_in_one_request_are_none(proxied: Api) -> None:
    assert Person(proxied).send("GET", "/dashboard/", headers={"x-forwarded-user": ""}).status_code == 401


def test_a_user_header_without_a_trusted_proxy_is_nothing(home: Home, sandbox: Sandbox) -> None:
    for header, proxies in ((b"x-forwarded-user", TrustedProxies(["10.0.0.1"])), (None, TrustedProxies(["127.0.0.1"]))):
        with running_api(home, sandbox.url, user_header=header, proxies=proxies) as api:
            assert Person(api).send("GET", "/dashboard/", headers=ROOT).status_code == 401
            api.state.keys.revoke("boss")


def test_their_forms_need_the_token_too(proxied: Api) -> None:
    person = let_in(proxied, "root@example.com")
    token = hidden(person.send("GET", "/dashboard/", headers=ROOT).text, "/dashboard/sign-out")
    assert person.post("/dashboard/accounts", {"csrf": ""}, ROOT).status_code == 403
    assert person.post("/dashboard/sign-out", token, ROOT).status_code == 303


HERE = Listening((), frozenset(), 13456, ("http://127.0.0.1:13456",), None, "127.0.0.1")
OPEN = Listening((), frozenset(), 13456, ("http://10.0.0.2:13456",), None, "10.0.0.2")
SOCKET = Listening((), frozenset())


@pytest.mark.parametrize(
    ("where", "server", "dashboard", "origin"),
    [
        (HERE, {}, {}, "http://tf-LABEL.localhost:13456"),
        (HERE, {}, {"origin": "address"}, "http://127.0.0.1:13456"),
        (HERE, {}, {"enabled": False}, None),
        (HERE, {"public_url": "https://gateway.example"}, {}, "https://gateway.example"),
        (SOCKET, {"public_url": "https://gateway.example"}, {}, "https://gateway.example"),
        (SOCKET, {}, {}, None),
        (OPEN, {}, {}, None),
        (OPEN, {}, {"remote": True}, "http://tf-LABEL.localhost:13456"),
        (OPEN, {"public_url": "http://gateway.example"}, {}, None),
        (OPEN, {"public_url": "https://gateway.example"}, {}, "https://gateway.example"),
    ],
)
def test_where_the_dashboard_is(
    home: Home, where: Listening, server: dict[str, str], dashboard: dict[str, object], origin: str | None
) -> None:
    config = Config(server=ServerSettings(**server), dashboard=DashboardSettings(**dashboard))  # type: ignore[arg-type]
    with State(home.state) as state:
        label = state.sessions.label()
        assert state.sessions.label() == label
        expected = None if origin is None else origin.replace("LABEL", label)
        assert dashboard_origin(config, where, state) == expected


def test_admins_are_named_and_the_others_look() -> None:
    config = Config(dashboard=DashboardSettings(admins=("me@example.com",)))
    assert (role_of(config, "me@example.com"), role_of(config, "you@example.com")) == ("admin", "viewer")
