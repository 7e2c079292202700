"""The REST API of the installed gateway: by curl as its page shows it, by workers, and in a real browser."""

import json
import os
import re
import subprocess
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any, Final
from urllib.parse import parse_qs, urlsplit

import httpx2
import pytest

from e2e.chromium import Browser, chromium
from e2e.issuer import SERVER, running_issuer
from e2e.parties import (
    PATIENCE,
    SandboxProcess,
    Server,
    document,
    eventually,
    program,
    running,
    tokenferry,
    write_config,
)
from e2e.test_browser import ACROSS, FETCH, NAME, NAMES, attack, free_port, site
from e2e.test_login import FILL, submit
from leaks import shows
from tokenferry import extract_login_url_from_error
from tokenferry.settings import Home

pytestmark = pytest.mark.e2e

PAGE: Final = Path(__file__).parents[2] / "docs" / "api.md"
EXAMPLE: Final = re.compile(r"^```sh\n(.*?)^```$", re.MULTILINE | re.DOTALL)
API: Final = ("/api/accounts", "/api/oauth/authorize")
IDP: Final = (
    '\n[[providers]]\nname = "idp"\nbase_url = "{url}"\nauth_type = "oauth"\n\n[providers.oauth]\nissuer = "{url}"\n'
    'client_id = "e2e-public"\nscopes = [{scopes}]\nauthorize_parameters = {{ prompt = "consent" }}\n'
)
OPENID: Final = '"openid", "email", "offline_access"'


def admin_key() -> str:
    outcome = tokenferry("key", "create", "boss", "--role", "admin")
    assert outcome.code == 0, outcome.err
    return outcome.out.strip()


@pytest.fixture
def admin(sandbox: SandboxProcess) -> str:
    return admin_key()


def call(method: str, url: str, key: str, body: object = None) -> httpx2.Response:
    given: dict[str, Any] = {} if body is None else {"json": body}
    headers = {"authorization": f"Bearer {key}"}
    return httpx2.request(method, url, headers=headers, timeout=PATIENCE, trust_env=False, **given)


def code_of(url: str, account: str = "alice") -> str:
    """What the sandbox's last page shows."""
    with httpx2.Client(follow_redirects=True, timeout=PATIENCE, trust_env=False) as browser:
        query = parse_qs(urlsplit(str(browser.get(f"{url}&login_hint={account}").url)).query)
    return f"{query['code'][0]}#{query['state'][0]}"


def test_the_examples_of_its_page_run_as_they_stand(
    home: Home, sandbox: SandboxProcess, tmp_path: Path, admin: str
) -> None:
    """But for the port, and the vendor's login, which is one at the sandbox here."""
    write_config(home, home.config.read_text() + IDP.format(url=sandbox.url, scopes='"user:inference"'))
    program("curl")
    header = tmp_path / "admin.header"
    header.touch(0o600)
    header.write_text(f"x-api-key: {admin}\n")
    told: list[Any] = []
    with running("serve", tmp_path) as gateway:
        for example in EXAMPLE.findall(PAGE.read_text(encoding="utf-8")):
            script = example.replace("http://127.0.0.1:13456", gateway.url).replace('"console"', '"sandbox"')
            if "CODE#STATE" in script:
                script = script.replace("CODE#STATE", code_of(told[-1]["url"], "carol"))
            shell = f"curl() {{ command curl -sS --noproxy '*' -w '\\n' \"$@\"; }}\n{script}"
            run = subprocess.run(
                ["bash", "-euc", shell],
                capture_output=True,
                text=True,
                cwd=tmp_path,
                env=os.environ | {"ANTHROPIC_API_KEY": "sk-ant-api03-e2e"},
                check=True,
            )
            told += [json.loads(line) for line in run.stdout.splitlines()]
    begun, done, begun_by_browser, tokens, by_login, renewed, deleted, added, made = told
    assert set(begun) == {"url", "state", "instructions", "expires_in", "verifier"}
    assert (done["success"], done["provider_id"]) == (True, "work")
    assert by_login["success"] is True
    assert begun_by_browser["login_url"].startswith(f"{gateway.url}/oauth/callback?")
    assert [one["provider_id"] for one in tokens] == ["work"]
    assert renewed["success"] is deleted["success"] is added["success"] is made["success"] is True
    assert {path.stem for path in home.accounts.glob("*.json")} == {"console-key", "key"}
    actions = [json.loads(line) for line in home.audit.read_text().splitlines()]
    changes = [(one["action"], one["name"]) for one in actions if one.get("client") == "boss"]
    assert changes == [
        ("account.login", "work"),
        ("account.add", "console-key"),
        ("account.refresh", "work"),
        ("account.remove", "work"),
        ("account.add", "key"),
        ("key.create", "ci"),
    ]


def test_any_worker_finishes_a_login_and_none_tells_a_secret(
    home: Home, sandbox: SandboxProcess, tmp_path: Path, admin: str
) -> None:
    write_config(home, home.config.read_text() + '\n[server]\nlog_level = "debug"\n')
    secrets: list[str] = [admin]

    def log_in(number: int) -> dict[str, Any]:
        begun = call("POST", f"{gateway.url}/api/oauth/authorize", admin, {"oauth_type": "sandbox"}).json()
        code = code_of(begun["url"], ("alice", "bob", "carol")[number % 3])
        secrets.extend(code.split("#"))
        done = call("POST", f"{gateway.url}/api/oauth/exchange", admin, {"code": code, "provider_id": f"a{number % 3}"})
        assert done.status_code == 200, done.text
        answer: dict[str, Any] = done.json()
        return answer

    with running("serve", tmp_path, "--workers", "2") as gateway:
        with ThreadPoolExecutor(3) as pool:
            answers = list(pool.map(log_in, range(3))) + [log_in(number) for number in range(3, 12)]
        names = {answer["provider_id"] for answer in answers}
        assert names == {"a0", "a1", "a2"}
        for name in names:
            renewed = call("POST", f"{gateway.url}/api/oauth/tokens/refresh", admin, {"provider_id": name})
            assert renewed.status_code == 200
    for name in names:
        token = document(home, name).credential
        secrets += [token.secret.reveal(), token.refresh.reveal()]  # type: ignore[union-attr]  # logins all
    log = gateway.log.read_text()
    assert "client=boss" in log
    assert not shows(log + home.audit.read_text(), *secrets)


def test_a_login_that_was_begun_before_a_restart_is_finished_after_it(
    home: Home, sandbox: SandboxProcess, tmp_path: Path, admin: str
) -> None:
    with running("serve", tmp_path) as gateway:
        begun = call("POST", f"{gateway.url}/api/oauth/authorize", admin, {"oauth_type": "sandbox"}).json()
    code = code_of(begun["url"])
    with running("serve", tmp_path) as gateway:
        finished = call("POST", f"{gateway.url}/api/oauth/exchange", admin, {"code": code, "provider_id": "work"})
    assert finished.status_code == 200
    assert (home.accounts / "work.json").exists()


@pytest.mark.parametrize("workers", ["1", "2"])
def test_a_login_being_exchanged_is_stored_though_two_signals_end_the_gateway(
    home: Home, sandbox: SandboxProcess, admin: str, tmp_path: Path, workers: str
) -> None:
    with running("serve", tmp_path, "--workers", workers) as gateway:
        begun = call("POST", f"{gateway.url}/api/oauth/authorize", admin, {"oauth_type": "sandbox"}).json()
        asked = {"code": code_of(begun["url"]), "provider_id": "work"}
        sandbox.fault("hang", path="/v1/oauth/token")
        with ThreadPoolExecutor(1) as pool:
            exchange = pool.submit(call, "POST", f"{gateway.url}/api/oauth/exchange", admin, asked)
            eventually(lambda: sandbox.is_asked("/v1/oauth/token"), "the code is presented")
            gateway.process.terminate()
            eventually(lambda: "waiting for" in gateway.log.read_text(), "the gateway ends")
            gateway.process.terminate()
            eventually(lambda: "second signal: ending streams" in gateway.log.read_text(), "the gateway ends at once")
            exchange.exception(PATIENCE)  # whoever asked has his answer, or none
            with pytest.raises(subprocess.TimeoutExpired):
                gateway.process.wait(2)
            sandbox.clear()
            assert gateway.process.wait(PATIENCE) == 0
    assert document(home, "work").account.provider == "sandbox"


def test_a_unix_socket_leads_to_the_api_too_and_needs_the_key(home: Home, admin: str, tmp_path: Path) -> None:
    curl, path = program("curl"), tmp_path / "gateway.sock"
    tmp_path.chmod(0o700)
    with running("serve", tmp_path, "--uds", str(path)):
        for header, status in ((f"x-api-key: {admin}", "200"), ("x-api-key: tfa_no", "401")):
            command = [curl, "-sS", "--unix-socket", str(path), "-H", header, "-w", "%{http_code}"]
            run = subprocess.run([*command, "http://any/api/status"], capture_output=True, text=True, check=True)
            assert run.stdout.endswith(status)


def test_a_dead_logins_error_names_a_page_of_the_gateway(gateway: Server, sandbox: SandboxProcess, key: str) -> None:
    sandbox.revoke("alice", "family")
    body = {"model": "claude-sonnet-5-5", "max_tokens": 9, "messages": [{"role": "user", "content": "hi"}]}
    answer = call("POST", f"{gateway.url}/v1/messages", key, body)
    assert answer.status_code == 503
    address = extract_login_url_from_error(answer.text)
    assert address == f"{gateway.url}/login"
    page = httpx2.get(address, timeout=PATIENCE, trust_env=False)
    assert page.status_code == 200
    assert "tokenferry login NAME" in page.text


@pytest.fixture
def browser(tmp_path: Path) -> Iterator[Browser]:
    with chromium(tmp_path, names="MAP * ~NOTFOUND, EXCLUDE 127.0.0.1, EXCLUDE localhost") as browser:
        yield browser


def test_a_login_is_clicked_through_in_a_real_browser(home: Home, browser: Browser, tmp_path: Path) -> None:
    """At an authorization server that isn't ours; the browser brings the login home, and no other one does."""
    with running_issuer(tmp_path, SERVER.with_name("login.mjs")) as issuer:
        write_config(home, IDP.format(url=issuer.url, scopes=OPENID))
        admin = admin_key()
        with running("serve", tmp_path) as gateway:
            asked = {"oauth_type": "idp", "provider_id": "work"}
            begun = call("POST", f"{gateway.url}/api/oauth/authorize", admin, asked).json()
            # A person on a page elsewhere who is led to the login's address begins nothing.
            with site() as elsewhere:
                browser.open(f"http://localhost:{elsewhere.port}/")
                browser.run("(url) => { setTimeout(() => { location.href = url; }); }", begun["login_url"])
                eventually(lambda: "Another page can't start a login" in text_of(browser), "the gateway has refused")
            browser.open(begun["login_url"])
            submit(browser, FILL, {"login": "carol", "password": "any"})
            submit(browser, FILL, {})
            assert "You are logged in as carol@mail.example: account work was stored." in text_of(browser)
            assert browser.run("() => document.cookie") == ""
            assert browser.run("() => getComputedStyle(document.body).maxWidth") != "none", "its own style counts"
            browser.picture(picture := tmp_path / "thank-you.png")
            assert picture.stat().st_size > 1000
            listed = call("GET", f"{gateway.url}/api/oauth/tokens", admin).json()
            assert [(one["provider_id"], one["provider"], one["state"]) for one in listed] == [("work", "idp", "fresh")]
            again = browser.open(begun["login_url"])
            assert again["status"] == 400
            # An answer in a browser that began nothing: the page shows what to paste.
            begun = call("POST", f"{gateway.url}/api/oauth/authorize", admin, asked).json()
            browser.open(begun["url"])
            eventually(lambda: "Almost done" in text_of(browser) or can_submit(browser), "the pages go on")
            code = str(browser.run("() => document.querySelector('code').innerText"))
            assert call("GET", f"{gateway.url}/api/oauth/tokens", admin).json() == listed
            pasted = {"code": code, "provider_id": "work"}
            assert call("POST", f"{gateway.url}/api/oauth/exchange", admin, pasted).status_code == 200
            assert call("DELETE", f"{gateway.url}/api/oauth/tokens/work", admin).status_code == 200
    assert not shows(gateway.log.read_text(), code.partition("#")[0], begun["state"], admin)


def text_of(browser: Browser) -> str:
    try:
        return str(browser.run("() => document.body.innerText"))
    except AssertionError:  # the page is being left
        return ""


def can_submit(browser: Browser) -> bool:
    """Consent once more, if that is asked; the page after it comes later."""
    if "form" in str(browser.run("() => document.querySelector('form') ? 'form' : ''")):
        submit(browser, FILL, {})
    return False


def test_pages_that_mean_harm_get_nowhere_though_they_know_the_admin_key(
    home: Home, sandbox: SandboxProcess, admin: str, tmp_path: Path
) -> None:
    port = free_port()
    with chromium(tmp_path, names=NAMES) as browser:
        with site(port=port):
            browser.open(f"http://{NAME}:{port}/")
        with running("serve", tmp_path, port=port) as gateway:
            # A page whose name came to mean the gateway (DNS rebinding).
            for path in (*API, "/openapi.json", "/oauth/callback?login=x", "/login"):
                given = {"method": "GET", "url": f"http://{NAME}:{port}{path}", "headers": {"x-api-key": admin}}
                learnt = json.loads(browser.run(FETCH, given) or "{}")
                assert "does not answer to that Host" in learnt["message"], path

            def refused() -> int:
                return sum("status=" in line for line in gateway.log.read_text().splitlines())

            for path in API:
                learnt = attack(browser, gateway.url, admin, refused, path=path)
                assert learnt == dict.fromkeys(ACROSS)
            served = [line for line in gateway.log.read_text().splitlines() if " status=2" in line]
            assert served == []
            assert call("GET", f"{gateway.url}/api/accounts", admin).json() == []
    assert not home.accounts.exists() or not list(home.accounts.glob("*.json"))
