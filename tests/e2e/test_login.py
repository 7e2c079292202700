"""Logging in and out at an authorization server that isn't ours, by its pages, in a real browser and without one."""

import contextlib
import json
import re
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final
from urllib.parse import quote_plus, urljoin

import httpx2
import pytest

from e2e.chromium import Browser, chromium
from e2e.issuer import SERVER, running_issuer
from e2e.parties import COMMAND, PATIENCE, begin, end, eventually, tokenferry, write_config
from tokenferry.settings import Home

if TYPE_CHECKING:
    import subprocess

pytestmark = pytest.mark.e2e

PAGES: Final = SERVER.with_name("login.mjs")
SECRET: Final = "e2e_secret:_with_+_and_%"
ACTION: Final = re.compile(r'<form[^>]* action="([^"]+)"')
ADDRESS: Final = re.compile(r"http://\S+")
FILL: Final = """(fields) => {
  for (const [name, value] of Object.entries(fields)) document.querySelector(`[name=${name}]`).value = value;
  setTimeout(() => document.querySelector('form').submit());
}"""
CHOOSE: Final = """(account) => { setTimeout(() => document.querySelector(`[value=${account}]`).click()); }"""


@pytest.fixture
def issuer(tmp_path: Path) -> Iterator[str]:
    with running_issuer(tmp_path, PAGES) as issuer:
        yield issuer.url


def declare(home: Home, issuer: str, client: str, more: str = "") -> None:
    """Nothing but the issuer and the client; a refresh token is given to who asks for consent."""
    write_config(
        home,
        f'[[providers]]\nname = "idp"\nbase_url = "https://llm.example"\nauth_type = "oauth"\n\n'
        f'[providers.oauth]\nissuer = "{issuer}"\nclient_id = "{client}"\n{more}\n'
        'scopes = ["openid", "email", "offline_access"]\nauthorize_parameters = { prompt = "consent" }\n',
    )


def said(process: "subprocess.Popen[str]") -> str:
    """What a login says before it waits."""
    assert process.stderr is not None
    text = ""
    while "It waits for" not in text:
        line = process.stderr.readline()
        assert line, text
        text += line
    return text


def click_through(local: str, account: str) -> httpx2.Response:
    """Do what a person does on the server's pages; the page at the end."""
    with httpx2.Client(follow_redirects=True, timeout=PATIENCE) as browser:
        page = browser.get(local)
        given = {"prompt": "login", "login": account, "password": "any"}
        for _ in range(4):
            found = ACTION.search(page.text)
            if found is None:
                break
            page = browser.post(urljoin(str(page.url), found[1]), data=given)
            given = {"prompt": "consent"}
        return page


def stored(home: Home, name: str) -> dict[str, Any]:
    data: dict[str, Any] = json.loads((home.accounts / f"{name}.json").read_text())
    return data


def is_dead(issuer: str, refresh_token: str, **given: Any) -> bool:
    answer = httpx2.post(
        f"{issuer}/token",
        data={"grant_type": "refresh_token", "refresh_token": refresh_token, **given.pop("fields", {})},
        timeout=PATIENCE,
        **given,
    )
    return answer.status_code == 400 and answer.json()["error"] == "invalid_grant"


def check_life(home: Home, name: str) -> str:
    """Renew it; the present refresh token."""
    before = stored(home, name)["credential"]
    renewed = tokenferry("refresh", name)
    assert renewed.code == 0, renewed.err
    after = stored(home, name)["credential"]
    assert after["refresh_token"] != before["refresh_token"]
    return str(after["refresh_token"])


def test_a_public_client_that_is_declared_by_its_issuer_logs_in_renews_and_logs_out(home: Home, issuer: str) -> None:
    declare(home, issuer, "e2e-public")
    process = begin(COMMAND, "login", "--provider", "idp")
    page = click_through(ADDRESS.findall(said(process))[0], "alice")
    assert page.status_code == 200
    assert "You can close this page" in page.text
    outcome = end(process)
    assert outcome.code == 0, outcome.err
    assert "logged in as alice@mail.example: stored account alice@mail.example (idp, oauth" in outcome.out
    refresh_token = check_life(home, "alice@mail.example")
    assert tokenferry("logout", "alice@mail.example").out == "logged out of account alice@mail.example\n"
    assert is_dead(issuer, refresh_token, fields={"client_id": "e2e-public"})


def test_a_client_with_a_secret_presents_it_as_declared(home: Home, issuer: str, tmp_path: Path) -> None:
    file = home.path / "client.secret"
    file.write_text(f"{SECRET}\n")
    file.chmod(0o600)
    declare(home, issuer, "e2e-confidential", f'client_secret_file = "{file}"\nclient_auth = "basic"')
    process = begin(COMMAND, "login", "work", "--provider", "idp")
    click_through(ADDRESS.findall(said(process))[0], "bob")
    outcome = end(process)
    assert outcome.code == 0, outcome.err
    assert SECRET not in outcome.err
    refresh_token = check_life(home, "work")
    assert tokenferry("account", "remove", "work", "--yes").err == ""
    assert is_dead(issuer, refresh_token, auth=("e2e-confidential", quote_plus(SECRET)))


def test_a_denied_login_is_reported(home: Home, issuer: str) -> None:
    declare(home, issuer, "e2e-public")
    process = begin(COMMAND, "login", "--provider", "idp")
    local = ADDRESS.findall(said(process))[0]
    with httpx2.Client(follow_redirects=True, timeout=PATIENCE) as browser:
        page = browser.get(local)
        browser.get(f"{page.url}/abort")
    outcome = end(process)
    assert outcome.code == 1
    assert "the login was refused (access_denied" in outcome.err


def test_a_login_is_clicked_through_in_a_real_browser(home: Home, issuer: str, tmp_path: Path) -> None:
    declare(home, issuer, "e2e-public")
    process = begin(COMMAND, "login", "work", "--provider", "idp")
    local = ADDRESS.findall(said(process))[0]
    with chromium(tmp_path, names="MAP * ~NOTFOUND, EXCLUDE 127.0.0.1") as browser:
        browser.open(local)
        submit(browser, FILL, {"login": "carol", "password": "any"})
        submit(browser, FILL, {})
        assert "Thank you" in str(browser.run("() => document.body.innerText"))
        browser.picture(tmp_path / "thank-you.png")
        # A page elsewhere can't use what is left, and nothing is.
        assert browser.run("() => document.cookie") == ""
    outcome = end(process)
    assert outcome.code == 0, outcome.err
    assert stored(home, "work")["credential"]["email"] == "carol@mail.example"


def test_the_sandboxs_pages_lead_home_in_a_real_browser_by_whatever_name_of_this_machine(
    home: Home, sandbox: Any, tmp_path: Path
) -> None:
    """From 127.0.0.1 to localhost: another site, as with a provider in the world, and the cookie comes along."""
    process = begin(COMMAND, "login", "work", "--provider", "sandbox")
    local = ADDRESS.findall(said(process))[0]
    assert local.startswith("http://localhost:")
    with chromium(tmp_path, names="MAP * ~NOTFOUND, EXCLUDE 127.0.0.1, EXCLUDE localhost") as browser:
        browser.open(local)
        submit(browser, CHOOSE, "alice")
        assert "Thank you" in str(browser.run("() => document.body.innerText"))
    outcome = end(process)
    assert outcome.code == 0, outcome.err
    assert tokenferry("token", "work").code == 0


def submit(browser: Browser, function: str, argument: object) -> None:
    """Send the form that is there, and wait for the page that follows."""
    before = browser.run("() => location.href")
    browser.run(function, argument)

    def is_elsewhere() -> bool:
        with contextlib.suppress(AssertionError):  # the page is being left
            return bool(browser.run("(old) => location.href !== old && document.readyState === 'complete'", before))
        return False

    eventually(is_elsewhere, "the next page is there")
