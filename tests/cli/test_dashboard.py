"""`tokenferry dashboard`: the address that it makes, and where there is none."""

import re
import signal
from collections.abc import Callable
from pathlib import Path
from urllib.parse import urlsplit

import httpx2
import pytest

from cli.harness import Outcome, tokenferry
from cli.serving import serving
from tokenferry.secret import Secret
from tokenferry.settings import Home
from tokenferry.state import GatewayRegistration, State

Inside = Callable[..., Outcome]
ORIGIN = "http://tf-abcdefghijklm.localhost:13456"


@pytest.fixture
def gateway(home: Home, monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("DISPLAY", "WAYLAND_DISPLAY", "BROWSER"):
        monkeypatch.delenv(name, raising=False)
    GatewayRegistration(home, url="http://127.0.0.1:13456", dashboard=ORIGIN)


@pytest.mark.usefixtures("gateway")
@pytest.mark.parametrize(("options", "role"), [((), "admin"), (("--viewer",), "viewer")])
def test_the_address_holds_a_code_that_begins_one_session(
    home: Home, inside: Inside, options: tuple[str, ...], role: str
) -> None:
    outcome = inside("dashboard", *options)
    assert outcome.code == 0
    address, _, code = outcome.out.strip().partition("#")
    assert address == f"{ORIGIN}/dashboard/enter"
    assert "works once, for a minute" in outcome.err
    assert "ssh -L 13456:127.0.0.1:13456 " in outcome.err
    with State(home.state) as state:
        begun = state.sessions.redeem(Secret(code))
        assert begun is not None
        assert (begun[0].role, begun[0].way, begun[0].name) == (role, "command", "dashboard")
    assert code.encode() not in home.state.read_bytes()
    assert code not in home.audit.read_text()


@pytest.mark.usefixtures("gateway")
def test_it_leads_to_an_accounts_page(inside: Inside) -> None:
    address = inside("dashboard", "--account", "a b/c", "--json").json["url"]
    assert address.endswith("&/dashboard/accounts/a%20b%2Fc")


def test_without_a_gateway_it_names_the_command_that_starts_one(inside: Inside) -> None:
    outcome = inside("dashboard")
    assert outcome.code == 6
    assert outcome.one_line().endswith("start it with: tokenferry serve")


def test_a_gateway_without_a_dashboard_is_reported(home: Home, inside: Inside) -> None:
    registration = GatewayRegistration(home, url="http://127.0.0.1:13456")
    outcome = inside("dashboard")
    registration.end()
    assert outcome.code == 2
    assert "has no dashboard" in outcome.one_line()


def test_a_real_gateway_answers_at_the_address_and_stays_there_over_restarts(home: Home, tmp_path: Path) -> None:
    origins = set()
    for folder in ("first", "second"):
        (tmp_path / folder).mkdir()
        with serving(tmp_path / folder) as served:
            address = tokenferry("dashboard", "--print").out.strip()
            where = urlsplit(address)
            assert re.fullmatch(r"tf-[a-z2-7]{13}\.localhost", where.hostname or "")
            origins.add(where.hostname)
            headers = {"host": where.netloc, "origin": f"http://{where.netloc}"}
            with httpx2.Client(base_url=served.url, headers=headers, trust_env=False) as client:
                assert client.get("/dashboard/").status_code == 401
                answer = client.post("/dashboard/enter", data={"code": where.fragment})
                assert answer.status_code == 303
                cookie = answer.headers["set-cookie"].partition(";")[0]
                assert client.get("/dashboard/", headers={"cookie": cookie}).status_code == 200
            assert where.netloc not in "".join(served.said), "the name is in no log"
    assert len(origins) == 1


def test_a_gateway_whose_dashboard_is_off_knows_no_such_page(home: Home, tmp_path: Path) -> None:
    home.config.write_text("[dashboard]\nenabled = false\n")
    home.config.chmod(0o600)
    with serving(tmp_path) as served, httpx2.Client(base_url=served.url, trust_env=False) as client:
        assert client.get("/dashboard/").status_code == 404
        assert tokenferry("dashboard").code == 2


def test_an_open_page_does_not_keep_a_gateway_from_ending(home: Home, tmp_path: Path) -> None:
    with serving(tmp_path) as served:
        where = urlsplit(tokenferry("dashboard", "--print").out.strip())
        headers = {"host": where.netloc, "origin": f"http://{where.netloc}"}
        with httpx2.Client(base_url=served.url, headers=headers, trust_env=False, timeout=60) as client:
            cookie = client.post("/dashboard/enter", data={"code": where.fragment}).headers["set-cookie"]
            with client.stream("GET", "/dashboard/events", headers={"cookie": cookie.partition(";")[0]}) as stream:
                lines = stream.iter_lines()
                assert next(lines) == ": here"
                served.tell(signal.SIGTERM)
                assert all(line in {"", "event: changed", "data: "} for line in lines), "it ends whole"
        assert served.end() == 0


def test_every_worker_knows_a_session_and_its_end(home: Home, tmp_path: Path, inside: Inside) -> None:
    boss = inside("key", "create", "boss", "--role", "admin").out.strip()
    with serving(tmp_path, "--workers", "2") as served:
        where = urlsplit(tokenferry("dashboard", "--print").out.strip())
        headers = {"host": where.netloc, "origin": f"http://{where.netloc}", "connection": "close"}
        with httpx2.Client(base_url=served.url, headers=headers, trust_env=False, timeout=60) as client:
            cookie = client.post("/dashboard/sign-in", data={"key": boss}).headers["set-cookie"].partition(";")[0]

            def seen() -> set[int]:
                return {client.get("/dashboard/", headers={"cookie": cookie}).status_code for _ in range(12)}

            assert seen() == {200}
            inside("key", "revoke", "boss")
            assert seen() == {401}
