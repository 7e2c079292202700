"""The dashboard in a real Chromium: a dead login comes back, keys are added, and other pages get nothing."""

import contextlib
import json
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from threading import Thread
from typing import Final
from urllib.parse import urlsplit

import pytest

from e2e.chromium import Browser, chromium
from e2e.conftest import AddLogin
from e2e.issuer import running_issuer
from e2e.parties import MODULES, SandboxProcess, Server, lacking, running, tokenferry
from e2e.test_login import PAGES, declare
from tokenferry.settings import Home

pytestmark = pytest.mark.e2e

NAMES: Final = "MAP attacker.test 127.0.0.1, MAP * ~NOTFOUND, EXCLUDE 127.0.0.1, EXCLUDE *.localhost, EXCLUDE localhost"
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
MARKUP: Final = "<img src=x onerror=window.pwned=1>"
SERIOUS: Final = """async (source) => {
  (0, eval)(source);
  const found = await axe.run(document, { resultTypes: ['violations'] });
  return found.violations.filter((one) => ['serious', 'critical'].includes(one.impact))
    .map((one) => `${one.id}: ${one.nodes.map((node) => node.target).join(' ')}`);
}"""


@pytest.fixture
def browser(tmp_path: Path) -> Iterator[Browser]:
    with chromium(tmp_path, names=NAMES) as browser:
        yield browser


@pytest.fixture
def served(home: Home, sandbox: SandboxProcess, add_login: AddLogin, tmp_path: Path) -> Iterator[Server]:
    """A gateway whose account `alice` has lost its login."""
    home.config.write_text(home.config.read_text() + IDP.format(url=sandbox.url))
    add_login("alice", expires_in=-60)
    sandbox.revoke("alice", "family")
    tokenferry("refresh", "alice")
    with running("serve", tmp_path) as server:
        yield server


def address(*options: str) -> str:
    outcome = tokenferry("dashboard", "--print", *options)
    assert outcome.code == 0, outcome.err
    return outcome.out.strip()


def enter(browser: Browser, *options: str) -> str:
    """Open the dashboard by the command's address; give its origin."""
    where = address(*options)
    browser.open(where)
    browser.shows("Sign out")
    parts = urlsplit(where)
    return f"{parts.scheme}://{parts.netloc}"


def states() -> dict[str, str]:
    return {one["name"]: one["state"] for one in json.loads(tokenferry("account", "list", "--json").out)}


@pytest.mark.usefixtures("served")
def test_a_dead_login_is_back_after_two_clicks_and_a_pasted_code(browser: Browser) -> None:
    assert states()["alice"] == "needs-login"
    enter(browser)
    browser.shows("needs login")
    browser.click_into_tab("text=Log in again")  # the first click
    browser.click("button[value=alice]")  # the second, at the provider
    code = browser.text("#code")
    browser.back()
    browser.click("nav >> text=Accounts")
    browser.shows("Waiting for the login of alice")
    browser.fill("input[name=code]", code)
    browser.click("text=Finish")
    browser.shows("account alice was updated")
    assert states()["alice"] == "fresh"
    assert browser.problems() == []


@pytest.mark.usefixtures("served")
def test_a_login_comes_home_by_the_browser_and_the_first_tab_shows_it_by_itself(browser: Browser) -> None:
    origin = enter(browser)
    browser.open(f"{origin}/dashboard/login")
    browser.fill("form:has(input[value=idp]) input[name=account]", "mine")
    browser.click_into_tab("form:has(input[value=idp]) >> text=Log in")
    browser.click("button[value=bob]")
    browser.shows("account mine was stored")
    browser.back()
    browser.click("nav >> text=Accounts")
    browser.shows("mine")
    assert states()["mine"] == "fresh"
    tokenferry("account", "pause", "mine")
    browser.shows("paused")  # nobody has loaded the page again
    assert browser.problems() == []


def test_an_account_is_out_of_service_until_tomorrow_in_two_clicks(
    served: Server, sandbox: SandboxProcess, browser: Browser
) -> None:
    tokenferry("account", "add", "key", "--provider", "sandbox", stdin=sandbox.api_key())
    enter(browser)
    browser.click("nav >> text=Accounts")
    browser.click("tr:has-text('key') >> text=Pause")
    zone = browser.run("() => Intl.DateTimeFormat().resolvedOptions().timeZone")
    browser.shows(f"this browser ({zone})")
    browser.click("text=Until tomorrow 8:00")
    browser.shows("Account key is out of service until")
    until = json.loads(tokenferry("account", "show", "key", "--json").out)["paused_until"]
    tomorrow = "(at) => { const d = new Date(at * 1000), n = new Date(); n.setDate(n.getDate() + 1);"
    same = " return [d.getDate() === n.getDate(), d.getHours(), d.getMinutes()]; }"
    assert browser.run(tomorrow + same, until) == [True, 8, 0]
    browser.click("text=Resume")
    browser.shows("Account key is back in service.")
    assert browser.problems() == []


def test_a_login_comes_home_from_a_server_that_is_not_ours(home: Home, tmp_path: Path, browser: Browser) -> None:
    with running_issuer(tmp_path, PAGES) as issuer:
        declare(home, issuer.url, "e2e-public")
        with running("serve", tmp_path):
            origin = enter(browser)
            browser.open(f"{origin}/dashboard/login")
            browser.fill("input[name=account]", "work")
            browser.click_into_tab("main form >> text=Log in")
            browser.fill("input[name=login]", "alice")
            browser.fill("input[name=password]", "any")
            browser.click("button[type=submit]")
            browser.shows("Authorize")
            browser.click("button[type=submit]")
            browser.shows("account work was stored")
            browser.back()
            browser.click("nav >> text=Accounts")
            browser.click("tbody >> text=work")
            browser.shows("alice@mail.example")
            assert states() == {"work": "fresh"}
            browser.click("text=Refresh now")
            browser.shows("The login of work was refreshed.")


def test_without_scripts_every_flow_works(served: Server, sandbox: SandboxProcess, tmp_path: Path) -> None:
    with chromium(tmp_path, names=NAMES, runs_scripts=False) as browser:
        where = address()
        browser.open(where)
        browser.fill("#code", where.partition("#")[2])
        browser.click("text=Open the dashboard")
        browser.shows("Sign out")
        browser.click("nav >> text=Accounts")
        browser.fill("#add input[name=name]", "key")
        browser.fill("#add input[name=key]", sandbox.api_key())
        browser.run("() => document.querySelector('#add select').value = 'sandbox'")
        browser.click("#add button")
        browser.shows("Stored account key.")
        browser.click("text=Pause")
        browser.shows("this gateway's machine")
        browser.click("text=Until tomorrow 8:00")
        browser.shows("08:00")
        browser.click("text=Resume")
        browser.shows("is back in service")
        browser.click("text=Remove this account")
        browser.click("text=Remove key")
        browser.shows("Removed account key.")
        assert set(states()) == {"alice"}


def test_each_view_looks_well_at_both_widths_and_in_both_themes(
    served: Server, browser: Browser, home: Home, tmp_path: Path
) -> None:
    """Look at the pictures; here it is checked that nothing is cut off, and what axe-core finds serious."""
    axe = MODULES / "axe-core" / "axe.min.js"
    if not axe.is_file():
        lacking("the npm package axe-core")
    origin = enter(browser)
    for width in (1280, 360):
        for theme in ("light", "dark"):
            browser.look(width, theme)
            for path in ("", "accounts", "accounts/alice", "accounts/alice?pause=1", "login", "nothing"):
                browser.open(f"{origin}/dashboard/{path}")
                cut = browser.run("() => document.documentElement.scrollWidth - innerWidth")
                assert cut <= 0, f"{path} at {width}"
                name = path.translate(str.maketrans("/?", "--")) or "now"
                browser.picture(tmp_path / f"{name}-{theme}-{width}.png")
                assert browser.run(SERIOUS, axe.read_text()) == [], path
    assert [one for one in browser.problems() if "404" not in one] == []


def test_markup_in_names_from_outside_runs_nothing(served: Server, browser: Browser) -> None:
    tokenferry("account", "set", "alice", "--label", f"note={MARKUP}")
    origin = enter(browser)
    for path in ("accounts", "accounts/alice", f"accounts?q={MARKUP}"):
        browser.open(f"{origin}/dashboard/{path}")
        assert browser.run("() => [window.pwned ?? null, document.querySelector('img[src=x]')]") == [None, None]
    browser.open(f"{origin}/dashboard/accounts/alice")
    browser.shows(MARKUP)
    assert [one for one in browser.problems() if "404" not in one] == []


# -- what other pages get


class Trap:
    """A server of the attacker's on another port, and the cookies that it was sent."""

    def __init__(self) -> None:
        self.cookies: list[str] = []
        self.port = 0


@contextlib.contextmanager
def trap() -> Iterator[Trap]:
    there = Trap()

    class Handler(BaseHTTPRequestHandler):
        def do_GET(self) -> None:  # the name the base class calls
            if cookie := self.headers.get("cookie"):
                there.cookies.append(cookie)
            self.send_response(200)
            self.send_header("content-type", "text/html")
            self.end_headers()
            self.wfile.write(b"<!doctype html><title>trap</title><body>")

        do_POST = do_GET  # noqa: N815  # as above

        def log_message(self, format: str, *args: object) -> None:  # noqa: A002  # as the base class names it
            """Say nothing."""

    with ThreadingHTTPServer(("127.0.0.1", 0), Handler) as server:
        there.port = server.server_address[1]
        thread = Thread(target=server.serve_forever, args=(0.05,))
        thread.start()
        try:
            yield there
        finally:
            server.shutdown()
            thread.join()


FORM: Final = """(url) => new Promise((done) => {
  const frame = Object.assign(document.createElement('iframe'), { name: 'frame' });
  document.body.append(frame);
  const form = Object.assign(document.createElement('form'), { action: url, method: 'POST', target: 'frame' });
  form.append(Object.assign(document.createElement('input'), { name: 'paused', value: 'yes' }));
  document.body.append(form);
  frame.onload = () => done(null);
  form.submit();
  setTimeout(() => done(null), 3000);
})"""
FRAMED: Final = """(url) => new Promise((done) => {
  const frame = Object.assign(document.createElement('iframe'), { src: url });
  document.body.append(frame);
  frame.onload = () => done(frame.contentDocument === null ? 'opaque' : 'readable');
})"""


def test_no_other_port_or_name_is_sent_the_cookie_and_their_forms_do_nothing(
    served: Server, browser: Browser, home: Home
) -> None:
    origin = enter(browser)
    host = urlsplit(origin).hostname
    with trap() as other:
        for name in ("127.0.0.1", "localhost", "other.localhost", "attacker.test"):
            browser.open(f"http://{name}:{other.port}/")
            browser.run(FORM, f"{origin}/dashboard/accounts/alice/pause")
            browser.run(FORM, f"{served.url}/dashboard/accounts/alice/pause")
            browser.run(FRAMED, f"{origin}/dashboard/")
        assert other.cookies == [], "the cookie is for the dashboard's own name"
        browser.open(f"http://{host}:{other.port}/")  # who knows the name gets it sent, but can't act with it
        browser.run(FORM, f"{origin}/dashboard/accounts/alice/pause")
    shown = json.loads(tokenferry("account", "show", "alice", "--json").out)
    assert shown["paused"] is False
    browser.open(f"{origin}/dashboard/")
    browser.shows("Sign out")


def test_the_code_is_in_no_log_and_its_second_use_ends_the_first_session(served: Server, browser: Browser) -> None:
    where = address()
    browser.open(where)
    browser.shows("Sign out")
    code = where.partition("#")[2]
    assert code not in served.log.read_text()
    assert code not in str(browser.run("() => location.href"))
    browser.open(where.partition("#")[0])
    browser.fill("#code", code)
    browser.click("text=Open the dashboard")
    browser.shows("was used before")
    origin = f"{urlsplit(where).scheme}://{urlsplit(where).netloc}"
    assert browser.open(f"{origin}/dashboard/")["status"] == 401


def test_a_revoked_key_ends_the_open_page_within_moments(served: Server, browser: Browser) -> None:
    key = tokenferry("key", "create", "boss", "--role", "admin").out.strip()
    parts = urlsplit(address())
    browser.open(f"{parts.scheme}://{parts.netloc}/dashboard/accounts")
    browser.fill("#key", key)
    browser.click("text=Sign in")
    browser.shows("Sign out")
    tokenferry("key", "revoke", "boss")
    browser.shows("An admin key may change things")
