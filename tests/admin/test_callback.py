"""A login that the browser brings home, and what others try at the same address."""

import contextlib
import threading
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from html import escape
from urllib.parse import parse_qs, quote, urlsplit

import httpx2
import pytest

from admin.rig import Api, Browser, running_api, with_query
from leaks import shows
from tokenferry.actions import LoginService
from tokenferry.gateway import bind
from tokenferry.sandbox import Sandbox
from tokenferry.secret import Secret
from tokenferry.settings import Home

ELSEWHERE = {"sec-fetch-site": "cross-site", "sec-fetch-mode": "navigate", "sec-fetch-dest": "document"}


def back_of(browser: Browser, url: str) -> str:
    """Go on from `url` to where the provider leads back to, without opening that."""
    answer = browser.get(url)
    assert answer.status_code == 303, answer.text
    answer = browser.get(with_query(answer.headers["location"], login_hint=browser.account))
    assert answer.status_code in {302, 303}
    return str(answer.headers["location"])


def names(api: Api) -> list[str]:
    return api.broker.book.store.names()


def check_page(page: httpx2.Response) -> None:
    """Nothing from elsewhere, nothing that runs, nothing that is kept."""
    assert page.headers["content-type"] == "text/html; charset=utf-8"
    assert page.headers["cache-control"] == "no-store"
    assert page.headers["referrer-policy"] == "no-referrer"
    assert page.headers["x-content-type-options"] == "nosniff"
    [policy] = page.headers.get_list("content-security-policy")
    assert policy.startswith("default-src 'none'; style-src 'sha256-")
    assert "unsafe" not in policy
    assert "frame-ancestors 'none'" in policy
    assert "<script" not in page.text
    assert "http:" not in page.text.replace("http://127.0.0.1", "")


def test_the_browser_that_opens_the_logins_address_brings_it_home(api: Api) -> None:
    begun = api.begin("idp", fields={"provider_id": "work"})
    assert urlsplit(begun["login_url"])[:3] == ("http", api.url.removeprefix("http://"), "/oauth/callback")
    assert parse_qs(urlsplit(begun["url"]).query)["redirect_uri"] == [f"{api.url}/oauth/callback"]
    assert "login_url" in begun["instructions"]
    browser = Browser()
    page = browser.open(begun["login_url"])
    assert page.status_code == 200
    assert "You are logged in as alice@example.com: account work was stored." in page.text
    check_page(page)
    assert names(api) == ["work"]
    assert not browser.cookies, "the cookie has done its work"
    line = api.audit()[-1]
    assert (line["action"], line["name"], line["provider"], line["client"]) == ("account.login", "work", "idp", "boss")


def test_without_a_name_the_account_is_called_by_the_address_and_the_next_login_updates_it(api: Api) -> None:
    Browser().open(api.begin("idp")["login_url"])
    assert names(api) == ["alice@example.com"]
    page = Browser().open(api.begin("idp", fields={"provider_id": "other"})["login_url"])
    assert "account alice@example.com was updated" in page.text
    assert names(api) == ["alice@example.com"]


def test_the_cookie_is_for_that_path_and_that_login_alone(api: Api) -> None:
    begun = api.begin("idp")
    answer = Browser().get(begun["login_url"])
    assert answer.status_code == 303
    [cookie] = answer.headers.get_list("set-cookie")
    name, _, value = cookie.partition("=")
    assert name.startswith("tokenferry_login_")
    assert len(value.partition(";")[0]) >= 43
    parts = {part.strip().lower() for part in cookie.split(";")[1:]}
    assert {"httponly", "path=/oauth/callback", "samesite=lax", "max-age=600"} <= parts
    assert not shows(cookie, begun["state"])


def test_an_answer_in_another_browser_does_nothing_but_show_what_to_paste(api: Api) -> None:
    begun = api.begin("idp")
    back = back_of(Browser(), begun["login_url"])
    page = Browser().get(back, headers=ELSEWHERE)
    assert page.status_code == 200
    assert "Another browser started this login" in page.text
    check_page(page)
    assert names(api) == []
    code = parse_qs(urlsplit(back).query)["code"][0]
    assert f"{code}#{begun['state']}" in page.text
    assert api.exchange(f"{code}#{begun['state']}", "work").status_code == 200


def test_a_login_whose_page_was_opened_directly_is_finished_by_pasting_the_last_address(api: Api) -> None:
    begun = api.begin("idp")
    answer = Browser().get(with_query(begun["url"], login_hint="alice"))
    back = answer.headers["location"]
    assert "Another browser started this login" in Browser().get(back).text
    assert api.exchange(back, "work").status_code == 200


def test_a_forged_cookie_is_as_good_as_none(api: Api) -> None:
    browser = Browser()
    back = back_of(browser, api.begin("idp")["login_url"])
    [name] = [cookie.name for cookie in browser.cookies.jar]
    for value in ("forged", "", '"', "x" * 43, "%00"):
        page = Browser().get(back, {"cookie": f"{name}={value}; other=1"})
        assert "Another browser started this login" in page.text
    assert names(api) == []
    assert "Thank you" in browser.open(back).text


def test_an_attackers_answer_does_not_log_a_person_in_as_the_attacker(api: Api) -> None:
    """Login CSRF: the attacker has an answer for a login, and has the person's browser open it."""
    attackers = back_of(Browser("bob"), api.begin("idp")["login_url"])
    person = Browser("alice")
    back_of(person, api.begin("idp")["login_url"])
    assert "Another browser started this login" in person.open(attackers, ELSEWHERE).text
    assert names(api) == []


def test_an_answer_is_good_once(api: Api) -> None:
    browser = Browser()
    back = back_of(browser, api.begin("idp")["login_url"])
    assert browser.open(back).status_code == 200
    again = browser.open(back)
    assert again.status_code == 400
    assert "This answers no login" in again.text
    assert len(names(api)) == 1


def test_of_two_answers_at_once_one_counts_and_the_other_shows_nothing_to_paste(
    api: Api, monkeypatch: pytest.MonkeyPatch
) -> None:
    browser = Browser()
    back = back_of(browser, api.begin("idp", fields={"provider_id": "work"})["login_url"])
    look, met = LoginService.redirect_of, threading.Barrier(2)

    def look_together(desk: LoginService, state: Secret) -> str | None:
        found = look(desk, state)
        if not met.broken:
            with contextlib.suppress(threading.BrokenBarrierError):
                met.wait(20)  # both have seen that it waits
                met.abort()
        return found

    monkeypatch.setattr(LoginService, "redirect_of", look_together)
    with ThreadPoolExecutor(2) as pool:
        pages = sorted(
            pool.map(lambda _: browser.get(back, headers=ELSEWHERE), range(2)), key=lambda one: one.status_code
        )
    assert [one.status_code for one in pages] == [200, 400]
    assert "account work was stored" in pages[0].text
    assert "This answers no login" in pages[1].text
    assert names(api) == ["work"]


def test_a_logins_address_that_two_browsers_open_is_given_up(api: Api) -> None:
    begun = api.begin("idp")
    browser = Browser()
    back = back_of(browser, begun["login_url"])
    other = Browser().get(begun["login_url"])
    assert other.status_code == 400
    assert "opened in another browser" in other.text
    assert browser.open(back).status_code == 400
    assert api.exchange(back, "work").status_code == 400
    assert names(api) == []


def test_the_same_browser_may_open_it_again(api: Api) -> None:
    begun, browser = api.begin("idp"), Browser()
    back_of(browser, begun["login_url"])
    assert browser.open(begun["login_url"]).status_code == 200
    assert len(names(api)) == 1


def test_two_logins_in_one_browser_do_not_mix(api: Api) -> None:
    browser = Browser("alice")
    first = back_of(browser, api.begin("idp", fields={"provider_id": "one"})["login_url"])
    browser.account = "bob"
    second = back_of(browser, api.begin("idp", fields={"provider_id": "two"})["login_url"])
    assert "alice@example.com: account one" in browser.open(first).text
    assert "bob@example.com: account two" in browser.open(second).text


def test_another_page_does_not_begin_it(api: Api) -> None:
    begun = api.begin("idp")
    page = Browser().get(begun["login_url"], headers=ELSEWHERE)
    assert page.status_code == 403
    assert "set-cookie" not in page.headers
    assert Browser().open(begun["login_url"], {**ELSEWHERE, "sec-fetch-site": "none"}).status_code == 200


def test_the_answer_may_come_from_another_site_as_it_does(api: Api) -> None:
    browser = Browser()
    back = back_of(browser, api.begin("idp")["login_url"])
    assert "Thank you" in browser.open(back, ELSEWHERE).text


@pytest.mark.parametrize("query", ["", "code=c", "state=s", "code=c&state=s", "login=x", "state=%00&code=c", "%ff=%ff"])
def test_what_answers_no_login_is_a_400(api: Api, query: str) -> None:
    page = Browser().get(f"{api.url}/oauth/callback?{query}")
    assert page.status_code == 400
    check_page(page)


def test_a_state_that_is_there_twice_is_none(api: Api) -> None:
    browser = Browser()
    back = back_of(browser, api.begin("idp")["login_url"])
    state = parse_qs(urlsplit(back).query)["state"][0]
    assert browser.open(f"{back}&state={state}").status_code == 400
    assert names(api) == []


def test_an_expired_login_is_none(api: Api, monkeypatch: pytest.MonkeyPatch) -> None:
    browser = Browser()
    back = back_of(browser, api.begin("idp")["login_url"])
    monkeypatch.setattr(api.state.logins, "_now", lambda: time.time() + 600)
    assert browser.open(back).status_code == 400
    assert names(api) == []


@pytest.mark.parametrize("issuer", ["https://evil.example", "", None])
def test_an_answer_of_another_issuer_or_of_none_is_refused_and_the_login_over(
    api: Api, sandbox: Sandbox, issuer: str | None
) -> None:
    browser = Browser()
    back = back_of(browser, api.begin("idp")["login_url"])
    assert f"iss={quote(sandbox.url, safe='')}" in back
    other = "" if issuer is None else f"&iss={quote(issuer, safe='')}"
    forged = back.replace(f"&iss={quote(sandbox.url, safe='')}", other)
    assert forged != back
    page = browser.open(forged)
    assert page.status_code == 400
    assert "not accepted" in page.text
    assert browser.open(back).status_code == 400
    assert sandbox.counters()["accounts"]["alice"]["grants"] == 0


def test_a_denied_login_is_reported_and_the_providers_text_is_harmless(api: Api) -> None:
    browser = Browser()
    begun = api.begin("idp")
    back = back_of(browser, begun["login_url"])
    words = "<img src=x onerror=alert(1)>'\"><svg onload=alert(1)>\u2028"
    state, issuer = (parse_qs(urlsplit(back).query)[name][0] for name in ("state", "iss"))
    query = f"error=access_denied&error_description={quote(words)}&state={state}&iss={quote(issuer)}"
    page = browser.open(f"{api.url}/oauth/callback?{query}")
    assert page.status_code == 400
    assert "the login was refused (access_denied" in page.text
    assert "<img" not in page.text
    assert "<svg" not in page.text
    assert escape("<img src=x onerror=alert(1)>") in page.text
    check_page(page)


def test_an_answer_without_a_code_shows_nothing_to_paste(api: Api) -> None:
    state = api.begin("idp")["state"]
    page = Browser().get(f"{api.url}/oauth/callback?error=access_denied&state={state}")
    assert page.status_code == 400
    assert "holds no code" in page.text


def test_too_many_parameters_are_not_read(api: Api) -> None:
    state = api.begin("idp")["state"]
    more = "&".join(f"p{number}=1" for number in range(100))
    assert Browser().get(f"{api.url}/oauth/callback?code=c&state={state}&{more}").status_code == 400


def test_a_code_that_is_shown_is_harmless(api: Api) -> None:
    state = api.begin("idp")["state"]
    page = Browser().get(f"{api.url}/oauth/callback?code={quote('<script>alert(1)</script>')}&state={state}")
    assert page.status_code == 200
    check_page(page)


def test_a_login_whose_key_was_revoked_meanwhile_is_over(api: Api) -> None:
    _, other = api.state.keys.create("other", role="admin")
    browser = Browser()
    back = back_of(browser, api.begin("idp", key=other.reveal())["login_url"])
    api.state.keys.revoke("other")
    page = browser.open(back)
    assert page.status_code == 400
    assert "was revoked or has expired" in page.text
    assert names(api) == []


def test_a_login_for_pasting_never_comes_back_here(api: Api) -> None:
    """The vendor's, and any whose declared redirect leads elsewhere."""
    for kind in ("console", "sandbox"):
        begun = api.begin(kind)
        assert "login_url" not in begun
        for query in (f"login={begun['state']}", f"state={begun['state']}&code=c"):
            assert Browser().get(f"{api.url}/oauth/callback?{query}").status_code == 400


def test_the_address_sees_no_other_method(api: Api) -> None:
    for method in ("POST", "PUT", "DELETE", "HEAD"):
        answer = api.call(method, "/oauth/callback", key="")
        assert answer.status_code == 405


@pytest.fixture
def declared(home: Home, sandbox: Sandbox) -> Iterator[Api]:
    """A provider that declares this gateway's callback as its redirect; and the vendor's."""
    with bind("127.0.0.1", 0) as sock:
        port = sock.getsockname()[1]
    redirect = f"http://127.0.0.1:{port}/oauth/callback"
    config = (
        f'\n[[providers]]\nname = "mine"\nbase_url = "{sandbox.url}"\nauth_type = "oauth"\n\n[providers.oauth]\n'
        f'issuer = "{sandbox.url}"\nclient_id = "mine"\nscopes = ["user:inference"]\nredirect_uri = "{redirect}"\n'
        f'\n[[providers]]\nname = "behind"\nbase_url = "{sandbox.url}"\nauth_type = "oauth"\n\n[providers.oauth]\n'
        f'issuer = "{sandbox.url}"\nclient_id = "mine"\nredirect_uri = "{redirect.replace("http:", "https:")}"\n'
        f'\n[[providers]]\nname = "console"\n\n[providers.oauth]\nredirect_uri = "{redirect}"\n'
    )
    with running_api(home, sandbox.url, config=config, port=port) as api:
        yield api


def test_a_declared_redirect_to_this_gateway_works(declared: Api) -> None:
    begun = declared.begin("mine", fields={"provider_id": "work"})
    assert begun["login_url"].startswith(declared.url)
    assert "account work was stored" in Browser().open(begun["login_url"]).text


def test_the_cookie_of_a_redirect_over_tls_is_sent_over_tls_alone(declared: Api) -> None:
    """The gateway itself may speak plain HTTP then, behind a proxy."""
    for name, is_secure in (("mine", False), ("behind", True)):
        begun = declared.begin(name)
        answer = Browser().get(begun["login_url"].replace("https:", "http:"))
        assert answer.status_code == 303
        assert ("secure" in answer.headers["set-cookie"].lower()) is is_secure


def test_the_vendors_client_is_for_pasting_whatever_is_declared(declared: Api) -> None:
    begun = declared.begin("console")
    assert "login_url" not in begun
    assert Browser().get(f"{declared.url}/oauth/callback?login={begun['state']}").status_code == 400
