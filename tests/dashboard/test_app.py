"""Who is let in at the dashboard, and what is refused."""

import re
import time

import pytest
from starlette.responses import Response

from admin.rig import Api
from dashboard.person import Person, hidden
from tokenferry.dashboard._cookie import SessionCookie
from tokenferry.dashboard._sections import SECTIONS
from tokenferry.secret import Secret

VIEWS = [view for section in SECTIONS for view in section.views]
ACTIONS = [action for section in SECTIONS for action in section.actions]


def test_a_key_signs_in_and_every_view_without_a_placeholder_opens(boss: Person) -> None:
    for view in VIEWS:
        if "{" not in view.path:
            answer = boss.open(f"/dashboard{view.path}")
            asks_for_more = view.path == "/traffic/requests"  # for the id of a request
            assert answer.status_code == (400 if asks_for_more else 200), answer.text
            assert 'aria-current="page"' in answer.text or not view.title


def test_nothing_is_shown_without_a_session(api: Api) -> None:
    for view in VIEWS:
        answer = Person(api).open(f"/dashboard{view.path}")
        assert answer.status_code == 401
        assert "Sign in" in answer.text


def test_a_bad_key_is_refused_and_not_shown_again(api: Api) -> None:
    person = Person(api)
    answer = person.sign_in("tfa_" + "x" * 43)
    assert answer.status_code == 401
    assert "not a client key" in answer.text
    assert "xxxx" not in answer.text
    assert not person.cookie


def test_the_cookie_is_for_this_origin_and_no_script(api: Api) -> None:
    answer = Person(api).sign_in(api.admin)
    [cookie] = answer.headers.get_list("set-cookie")
    parts = {part.strip().lower() for part in cookie.split(";")[1:]}
    assert {"httponly", "path=/", "samesite=strict", "max-age=604800"} <= parts
    assert not any(part.startswith("domain") for part in parts)


def test_a_revoked_key_ends_its_sessions(api: Api, boss: Person) -> None:
    assert boss.open("/dashboard/").status_code == 200
    api.state.keys.revoke("boss")
    assert boss.open("/dashboard/").status_code == 401


@pytest.mark.parametrize("after", [12 * 3600, 7 * 86_400])
def test_a_session_ends_when_it_is_idle_and_after_a_week(
    api: Api, boss: Person, monkeypatch: pytest.MonkeyPatch, after: int
) -> None:
    began = time.time()
    ends = [began + step for step in range(11 * 3600, after, 11 * 3600)]
    for now in ends:
        monkeypatch.setattr(api.state.sessions, "_now", lambda now=now: now)
        assert boss.open("/dashboard/").status_code == 200
    monkeypatch.setattr(api.state.sessions, "_now", lambda: max([began, *ends][-1] + 12 * 3600, began + after))
    assert boss.open("/dashboard/").status_code == 401


def test_signing_in_ends_the_session_that_the_browser_had(api: Api, boss: Person) -> None:
    """Session fixation: a cookie that somebody planted never becomes the session of who signs in."""
    planted = boss.cookie
    boss.sign_in(api.admin)
    assert boss.cookie != planted
    boss.cookie = planted
    assert boss.open("/dashboard/").status_code == 401


def test_a_made_up_cookie_opens_nothing(api: Api) -> None:
    person = Person(api)
    for value in ("tf_session=", "tf_session=x", 'tf_session="', "tf_session=" + "A" * 43, "__Host-tf_session=x"):
        person.cookie = value
        assert person.open("/dashboard/").status_code == 401


def test_signing_out_ends_the_session_for_good(boss: Person) -> None:
    cookie = boss.cookie
    page = boss.open("/dashboard/").text
    assert boss.post("/dashboard/sign-out", hidden(page, "/dashboard/sign-out")).status_code == 303
    assert not boss.cookie
    boss.cookie = cookie
    assert boss.open("/dashboard/").status_code == 401


def test_a_code_of_the_command_opens_once_and_its_second_use_ends_what_the_first_one_began(api: Api) -> None:
    code = api.state.sessions.make_code().reveal()
    first, second = Person(api), Person(api)
    assert first.post("/dashboard/enter", {"code": code}).status_code == 303
    assert "dashboard" in first.open("/dashboard/").text
    answer = second.post("/dashboard/enter", {"code": code})
    assert answer.status_code == 403
    assert "was used before" in answer.text
    assert not second.cookie
    assert first.open("/dashboard/").status_code == 401


def test_a_code_is_good_for_a_minute(api: Api, monkeypatch: pytest.MonkeyPatch) -> None:
    code = api.state.sessions.make_code().reveal()
    monkeypatch.setattr(api.state.sessions, "_now", lambda: time.time() + 61)
    assert "has expired" in Person(api).post("/dashboard/enter", {"code": code}).text


def test_the_plain_address_shows_the_command_and_nothing_else(api: Api, boss: Person) -> None:
    boss.host = api.url.partition("//")[2]
    for path in ("/dashboard", "/dashboard/", "/dashboard/accounts", "/dashboard/enter"):
        answer = boss.open(path)
        assert answer.status_code == 421
        assert "tokenferry dashboard" in answer.text
        assert api.origin not in answer.text
        assert api.origin not in str(answer.headers)


def test_the_dashboards_name_opens_neither_the_api_nor_inference(api: Api, boss: Person) -> None:
    for path in ("/api/status", "/v1/models", "/metrics", "/openapi.json", "/healthz"):
        assert boss.open(path).status_code == 421
    boss.host = api.url.partition("//")[2]
    assert boss.open("/api/status").status_code == 401, "the cookie is not a key"


def test_people_are_led_to_the_dashboard_at_its_name(boss: Person) -> None:
    assert boss.open("/").headers["location"] == "/dashboard/"
    assert boss.open("/login").headers["location"] == "/dashboard/login"
    assert boss.open("/login?account=a%2Fb").headers["location"] == "/dashboard/accounts/a%2Fb"
    assert boss.open("/oauth/authorize").headers["location"] == "/dashboard/login"


# -- attacks of other pages


@pytest.mark.parametrize(
    "headers",
    [
        {"sec-fetch-site": "cross-site"},
        {"sec-fetch-site": "same-site"},
        {"sec-fetch-site": "cross-site", "sec-fetch-mode": "no-cors", "sec-fetch-dest": "image"},
        {"sec-fetch-site": "cross-site", "sec-fetch-dest": "iframe"},
    ],
)
def test_another_sites_page_opens_nothing(boss: Person, headers: dict[str, str]) -> None:
    answer = boss.send("GET", "/dashboard/", headers=headers)
    assert answer.status_code == 403
    assert "set-cookie" not in answer.headers


@pytest.mark.parametrize(
    "headers",
    [
        {"origin": "http://127.0.0.1:1"},
        {"origin": "http://localhost:1"},
        {"origin": "http://tf-aaaaaaaaaaaaa.localhost:1"},
        {"origin": "null"},
        {"origin": ""},
        {"sec-fetch-site": "same-site"},
        {"sec-fetch-site": "cross-site"},
        {"content-type": "text/plain"},
        {"content-type": "multipart/form-data; boundary=x"},
        {"content-type": "application/json"},
        {"content-type": ""},
    ],
)
def test_no_other_pages_form_is_carried_out(api: Api, boss: Person, headers: dict[str, str]) -> None:
    form = hidden(boss.open("/dashboard/").text, "/dashboard/sign-out")
    answer = boss.post("/dashboard/sign-out", form, headers)
    assert answer.status_code in {403, 415}
    assert boss.open("/dashboard/").status_code == 200
    assert Person(api).post("/dashboard/sign-in", {"key": api.admin}, headers).status_code in {403, 415}


def test_a_name_that_is_rebound_reaches_nothing(boss: Person) -> None:
    for host in ("attacker.test", "attacker.test:1", "127.0.0.1:1", "tf-aaaaaaaaaaaaa.localhost"):
        boss.host = host
        assert boss.open("/dashboard/").status_code == 421


def test_every_action_needs_the_token_of_the_session(api: Api, boss: Person) -> None:
    other = Person(api)
    other.sign_in(api.admin)
    foreign = hidden(other.open("/dashboard/").text, "/dashboard/sign-out")["csrf"]
    for path in [f"/dashboard{action.path}" for action in ACTIONS] + ["/dashboard/sign-out"]:
        for token in ("", "0" * 64, foreign, "\u00e4"):
            assert boss.post(path.replace("{name}", "x"), {"csrf": token}).status_code == 403


def test_who_only_looks_changes_nothing(api: Api) -> None:
    _, key = api.state.keys.create("looker", role="viewer")
    viewer = Person(api)
    viewer.sign_in(key.reveal())
    token = hidden(viewer.open("/dashboard/").text, "/dashboard/sign-out")["csrf"]
    for action in ACTIONS:
        assert action.roles == {"admin"} or "client" in action.roles
        if "viewer" not in action.roles:
            answer = viewer.post(f"/dashboard{action.path.replace('{name}', 'x')}", {"csrf": token})
            assert answer.status_code == 403
            assert "may only read" in answer.text


def test_a_client_key_sees_its_own_views_alone(api: Api) -> None:
    _, key = api.state.keys.create("ci")
    client = Person(api)
    client.sign_in(key.reveal())
    for view in VIEWS:
        answer = client.open(f"/dashboard{view.path}")
        assert (answer.status_code == 403) is ("client" not in view.roles), view.path


def test_a_page_cannot_be_framed_and_runs_only_what_it_names(boss: Person) -> None:
    answer = boss.open("/dashboard/")
    [policy] = answer.headers.get_list("content-security-policy")
    assert "frame-ancestors 'none'" in policy
    assert "require-trusted-types-for 'script'" in policy
    assert "unsafe" not in policy
    assert answer.headers["cache-control"] == "no-store"
    assert answer.headers["cross-origin-opener-policy"] == "same-origin"
    assert answer.headers["cross-origin-resource-policy"] == "same-origin"
    [nonce] = re.findall(r"'nonce-([^']+)'", policy)
    assert nonce not in boss.open("/dashboard/").text, "each page has its own"
    scripts = re.findall(r"<script([^>]*)>", answer.text)
    assert scripts
    for script in scripts:
        assert f'nonce="{nonce}"' in script
        assert 'src="/dashboard/static/' in script
    assert not re.search(r"\son\w+=|style=|javascript:", answer.text)


def test_htmx_starts_behind_its_extensions(boss: Person) -> None:
    """It starts when the page is read, or at once if it was deferred."""
    scripts = re.findall(r"<script[^>]*/static/\w+\.([\w.-]+)[^>]*?(defer)?>", boss.open("/dashboard/").text)
    assert scripts[:4] == [
        ("htmx.min.js", ""),
        ("hx-csp.min.js", ""),
        ("hx-sse.min.js", ""),
        ("dashboard.js", "defer"),
    ]


def test_where_a_sign_in_leads_is_a_page_of_the_dashboard(api: Api) -> None:
    for foreign in ("https://evil.example/", "//evil.example", "/\\evil.example", "/dashboard/\r\nx: y", "", "/api/x"):
        answer = Person(api).post("/dashboard/sign-in", {"key": api.admin, "following": foreign})
        assert answer.headers["location"] == "/dashboard/"


def test_a_refusal_is_a_page_for_people(boss: Person) -> None:
    answer = boss.send("GET", "/dashboard/", headers={"sec-fetch-site": "cross-site"})
    assert answer.headers["content-type"].startswith("text/html")
    assert "open the dashboard with: tokenferry dashboard." in answer.text
    assert "default-src 'none'" in answer.headers["content-security-policy"]


def test_the_page_at_the_plain_address_has_its_style(api: Api) -> None:
    person = Person(api)
    person.host = api.url.partition("//")[2]
    style = re.findall(r'href="(/dashboard/static/[^"]+\.css)"', person.open("/dashboard/").text)[0]
    assert (
        person.send("GET", style, headers={"sec-fetch-mode": "no-cors", "sec-fetch-dest": "style"}).status_code == 200
    )
    assert person.send("GET", style, headers={"sec-fetch-site": "cross-site"}).status_code == 403


def test_over_https_the_cookie_is_bound_to_the_host() -> None:
    response = Response()
    SessionCookie("https://gateway.example").set(response, Secret("x" * 43))
    cookie = response.headers["set-cookie"]
    assert cookie.startswith("__Host-tf_session=")
    assert "Secure" in cookie
    assert "Path=/;" in cookie


def test_who_must_sign_in_first_comes_back_to_the_page_and_never_to_a_forms_address(api: Api) -> None:
    page = Person(api).open("/dashboard/accounts?sort=name").text
    assert 'name="following" value="/dashboard/accounts?sort=name"' in page
    page = Person(api).post("/dashboard/accounts/x/pause", {"csrf": ""}).text
    assert 'name="following" value="/dashboard/"' in page


def test_what_answers_a_form_is_not_asked_for_again(boss: Person) -> None:
    assert 'hx-get="/dashboard/accounts"' in boss.open("/dashboard/accounts").text
    answer = boss.act("/dashboard/accounts", "/dashboard/accounts", name="a b", provider="anthropic", key="x")
    assert answer.status_code == 400
    assert "hx-get" not in answer.text


def test_a_page_whose_session_ended_before_it_listens_is_loaded_again(api: Api) -> None:
    answer = Person(api).open("/dashboard/events")
    assert (answer.status_code, answer.headers["hx-refresh"]) == (401, "true")
