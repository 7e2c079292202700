"""The dashboard in a real Chromium: what happened to a request, a key that works, a route, a setting taken back."""

from collections.abc import Iterator
from pathlib import Path
from typing import Final

import httpx2
import pytest

from e2e.chromium import Browser, chromium
from e2e.parties import MODULES, SandboxProcess, Server, lacking, running, tokenferry
from e2e.test_dashboard import NAMES, SERIOUS, address, enter
from tokenferry.settings import Home

pytestmark = pytest.mark.e2e

MODEL: Final = "claude-sonnet-4-5"


@pytest.fixture
def browser(tmp_path: Path) -> Iterator[Browser]:
    with chromium(tmp_path, names=NAMES) as browser:
        yield browser


@pytest.fixture
def served(home: Home, sandbox: SandboxProcess, tmp_path: Path) -> Iterator[Server]:
    """A gateway with the accounts `first` and `second`."""
    for name, owner in (("first", "dave"), ("second", "carol")):
        outcome = tokenferry("account", "add", name, "--provider", "sandbox", stdin=sandbox.api_key(owner))
        assert outcome.code == 0, outcome.err
    with running("serve", tmp_path) as server:
        yield server


def ask(server: Server, key: str, session: str = "") -> httpx2.Response:
    headers = {"x-api-key": key, "anthropic-version": "2023-06-01"}
    if session:
        headers["x-claude-code-session-id"] = session
    body = {"model": MODEL, "max_tokens": 16, "messages": [{"role": "user", "content": "hello"}]}
    return httpx2.post(f"{server.url}/v1/messages", json=body, headers=headers, trust_env=False, timeout=60)


def local_key() -> str:
    return tokenferry("token", "--gateway").out.strip()


def test_why_a_request_went_to_the_other_account_is_three_clicks_away(
    served: Server, sandbox: SandboxProcess, browser: Browser
) -> None:
    sandbox.fault("status", status=429, path="/v1/messages", headers={"retry-after": "3600"}, type="rate_limit_error")
    answer = ask(served, local_key(), "11111111-2222-4333-8444-555555555555")
    assert answer.status_code == 200
    enter(browser)
    browser.shows("accounts usable")
    browser.click("nav >> text=Traffic")
    browser.shows("First byte")
    browser.click("tbody a")
    browser.shows("What happened")
    browser.shows("answered 429")
    browser.shows("second")
    assert answer.headers["x-tokenferry-request-id"] in browser.text("h1")
    browser.click("text=11111111-2222-4333-8444-555555555555")
    browser.shows("Session 11111111")
    assert browser.problems() == []


def test_a_request_is_found_by_its_id_and_a_list_turns_around(served: Server, browser: Browser) -> None:
    ids = [ask(served, local_key()).headers["x-tokenferry-request-id"] for _ in range(3)]
    enter(browser)
    browser.click("nav >> text=Traffic")
    browser.shows("First byte")
    browser.click("th >> text=When")
    browser.shows("↑")
    links = (
        "() => [...document.querySelectorAll('tbody td:first-child a')].map((one) => one.pathname.split('/').at(-1))"
    )
    assert browser.run(links) == ids
    browser.fill("input[name=id]", ids[1])
    browser.click("text=Find")
    browser.shows("What happened")
    assert ids[1] in browser.text("h1")
    browser.click("nav >> text=Traffic")
    browser.fill("input[name=id]", "tf_nothing")
    browser.click("text=Find")
    browser.shows("Nothing is stored about request")
    assert [one for one in browser.problems() if "404" not in one] == []


def test_a_key_is_made_pasted_and_revoked(served: Server, browser: Browser) -> None:
    enter(browser)
    browser.click("nav >> text=Keys")
    browser.click("text=Create a key")
    browser.fill("input[name=name]", "colleague")
    browser.fill("input[name=amount_0]", "lots")
    browser.fill("input[name=expires]", "90")
    browser.click("text=Create the key")
    browser.shows("These fields need another value")
    assert browser.run("() => [...document.querySelectorAll('[aria-invalid]')].map((one) => one.name)") == [
        "expires",
        "amount_0",
    ]
    browser.fill("input[name=amount_0]", "20")
    browser.fill("input[name=expires]", "90d")
    browser.click("text=Create the key")
    browser.shows("Copy it now.")
    key = browser.text("pre.key code")
    assert f"export ANTHROPIC_AUTH_TOKEN={key}" in browser.text("main")
    assert ask(served, key).status_code == 200
    browser.click("text=Its rights and budgets")
    browser.shows("$20.00 a day")
    browser.click("text=Revoke…")
    browser.click("text=Revoke colleague")
    browser.shows("Revoked key colleague")
    assert ask(served, key).status_code == 401
    assert [one for one in browser.problems() if "400" not in one] == []


@pytest.mark.usefixtures("served")
def test_a_route_is_tried_and_a_setting_changed_and_taken_back(home: Home, browser: Browser) -> None:
    before = home.config.read_text()
    enter(browser)
    browser.click("nav >> text=Routing")
    browser.fill("input[name=model]", MODEL)
    browser.click("text=Where would it go?")
    browser.shows("first would serve it, at sandbox")
    browser.click("nav >> text=Settings")
    browser.click("text=max_queue")
    browser.fill("input[name=value]", "7")
    browser.click("text=Show the change")
    browser.shows("+max_queue = 7")
    browser.click("button >> text=Save")
    browser.shows("Saved pool.max_queue.")
    assert "max_queue = 7" in home.config.read_text()
    browser.click("text=The last change can be taken back")
    browser.click("text=Take it back")
    browser.shows("as it was before")
    assert home.config.read_text() == before
    assert browser.problems() == []


def test_without_scripts_the_views_work_as_well(served: Server, home: Home, tmp_path: Path) -> None:
    assert ask(served, local_key()).status_code == 200
    with chromium(tmp_path, names=NAMES, runs_scripts=False) as browser:
        where = address()
        browser.open(where)
        browser.fill("#code", where.partition("#")[2])
        browser.click("text=Open the dashboard")
        browser.shows("Serving. 2 of 2 accounts usable.")
        browser.click("nav >> text=Traffic")
        browser.click("text=7d")
        browser.run("() => document.querySelector('select[name=status]').value = 'failed'")
        browser.click("button >> text=Filter")
        browser.shows("No request matches.")
        browser.click("text=Clear")
        browser.click("th >> text=Total")
        browser.shows("↓")
        browser.click("nav >> text=Settings")
        browser.click("text=max_queue")
        browser.fill("input[name=value]", "7")
        browser.click("text=Show the change")
        browser.click("button >> text=Save")
        browser.shows("Saved pool.max_queue.")
    assert "max_queue = 7" in home.config.read_text()


def test_each_view_looks_well_at_both_widths_and_in_both_themes(
    served: Server, sandbox: SandboxProcess, browser: Browser, tmp_path: Path
) -> None:
    """Look at the pictures; here it is checked that nothing is cut off, and what axe-core finds serious."""
    axe = MODULES / "axe-core" / "axe.min.js"
    if not axe.is_file():
        lacking("the npm package axe-core")
    origin = enter(browser)
    paths = ["traffic", "keys", "routing", "settings"]  # what they show of nothing is looked at as well
    pictures = [(f"empty-{path}", path) for path in paths]
    for round_ in ("empty", "used"):
        for width in (1280, 360):
            for theme in ("light", "dark"):
                browser.look(width, theme)
                for name, path in pictures:
                    browser.open(f"{origin}/dashboard/{path}")
                    cut = browser.run("() => document.documentElement.scrollWidth - innerWidth")
                    assert cut <= 0, f"{path} at {width}"
                    browser.picture(tmp_path / f"{name}-{theme}-{width}.png")
                    assert browser.run(SERIOUS, axe.read_text()) == [], path
        if round_ == "empty":
            sandbox.fault("status", status=529, path="/v1/messages", type="overloaded_error")
            answers = [ask(served, local_key(), f"session-{number % 2}") for number in range(6)]
            story = f"traffic/requests/{answers[0].headers['x-tokenferry-request-id']}"
            more = [
                "",
                story,
                "traffic/sessions/session-1",
                "traffic?shows=sessions",
                "keys/new",
                f"routing?try=1&model={MODEL}",
            ]
            pictures = [(path.replace("/", "-").partition("?")[0] or "now", path) for path in (*paths, *more)]
            pictures += [("setting", "settings/pool.strategy"), ("setting-command", "settings/server.trusted_proxies")]
    assert [one for one in browser.problems() if "404" not in one] == []
