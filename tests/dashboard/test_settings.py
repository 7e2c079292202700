"""Settings in the dashboard: each with its value, changed with a diff, taken back; some by the command alone."""

import re

import pytest

from admin.rig import Api
from dashboard.person import Person, hidden
from tokenferry.config_changes import propose_change, write_change
from tokenferry.credentials import ApiKey
from tokenferry.secret import Secret
from tokenferry.stores import Account


def change(boss: Person, name: str, value: str) -> str:
    """Go through both steps; give the page that follows."""
    place = f"/dashboard/settings/{name}"
    preview = boss.act(place, f"{place}/preview", value=value)
    if f"{place}/save" not in preview.text:
        return preview.text
    answer = boss.post(f"{place}/save", hidden(preview.text, f"{place}/save"))
    return boss.open(answer.headers["location"]).text if answer.status_code == 303 else answer.text


def test_a_change_is_shown_as_a_diff_before_it_is_written_and_can_be_taken_back(api: Api, boss: Person) -> None:
    before = api.home.config.read_text()
    preview = boss.act("/dashboard/settings/pool.max_queue", "/dashboard/settings/pool.max_queue/preview", value="7")
    assert '<span class="added">+max_queue = 7</span>' in preview.text
    assert api.home.config.read_text() == before
    page = change(boss, "pool.max_queue", "7")
    assert "Saved pool.max_queue." in page
    assert "max_queue = 7" in api.home.config.read_text()
    assert "config.set" in api.home.audit.read_text()
    assert '"client": "boss"' in api.home.audit.read_text()
    assert "can be taken back" in page
    assert "as it was before" in boss.act("/dashboard/settings", "/dashboard/settings/undo").text
    assert api.home.config.read_text() == before


def test_what_another_wrote_meanwhile_is_not_lost(api: Api, boss: Person) -> None:
    place = "/dashboard/settings/pool.max_queue"
    preview = boss.act(place, f"{place}/preview", value="7")
    api.home.config.write_text(api.home.config.read_text() + "# mine\n")
    answer = boss.post(f"{place}/save", hidden(preview.text, f"{place}/save"))
    assert answer.status_code == 409
    assert api.home.config.read_text().endswith("# mine\n")
    change(boss, "pool.max_queue", "8")
    api.home.config.write_text(api.home.config.read_text() + "# and mine\n")
    assert "can be taken back" not in boss.open("/dashboard/settings").text


@pytest.mark.parametrize(
    ("name", "value", "sentence"),
    [
        ("pool.max_queue", "many", "max_queue"),
        ("pool.strategy", "luck", "strategy"),
        ("router.account", "nobody", "nobody"),
    ],
)
def test_what_config_check_refuses_is_refused_here(
    api: Api, boss: Person, name: str, value: str, sentence: str
) -> None:
    api.broker.add(Account("work", "sandbox", "api-key"), ApiKey(Secret("fake-key")))
    before = api.home.config.read_text()
    page = change(boss, name, value)
    assert 'role="alert"' in page
    assert sentence in page
    assert api.home.config.read_text() == before


@pytest.mark.parametrize(
    "name",
    [
        *("policy.subscriptions", "server.allow_remote", "server.trusted_proxies", "server.tls_key", "server.uds"),
        *("upstream.ca_file", "dashboard.user_header", "dashboard.admins", "plugins.enabled", "log.file"),
        *("providers.sandbox.base_url", "providers.sandbox.api_key", "providers.sandbox.command"),
        *("providers.idp.oauth.issuer", "providers.idp.oauth.token_endpoint", "providers.idp.usage_url"),
        *("providers.idp.oauth.client_secret_file", "providers.idp.provider_type", "providers.idp.oauth.scopes"),
        *("providers.idp.token_exchange.url", "providers.idp.token_exchange.endpoint_hosts"),
        *("providers.idp.google_credentials", "providers.idp.resource", "providers.idp.project_id"),
    ],
)
def test_some_settings_show_their_command_instead_and_no_form_changes_them(api: Api, boss: Person, name: str) -> None:
    for provider in ("sandbox", "idp"):
        api.broker.add(Account(provider, provider, "api-key"), ApiKey(Secret(f"fake-key-of-{provider}")))
    before = api.home.config.read_text()
    page = boss.open(f"/dashboard/settings/{name}").text
    assert "No web page changes this" in page
    assert "tokenferry policy set own-use" in page or f"tokenferry config set {name} VALUE" in page
    csrf = re.findall(r'name="csrf" value="([^"]+)"', page)[0]
    for step in ("preview", "save"):
        for form in ({"value": "/etc/passwd"}, {"unset": "1"}):
            answer = boss.post(f"/dashboard/settings/{name}/{step}", {"csrf": csrf, **form})
            assert answer.status_code == 403
    assert api.home.config.read_text() == before


def test_taking_back_never_changes_what_the_command_alone_may(api: Api, boss: Person) -> None:
    """`config set` in a terminal keeps the way back as well; the dashboard doesn't go it for such a setting."""
    write_change(
        api.home, propose_change(api.home.config, [("server.trusted_proxies", "127.0.0.1"), ("pool.max_queue", "5")])
    )
    page = boss.act("/dashboard/settings", "/dashboard/settings/undo")
    assert page.status_code == 403
    assert "max_queue = 5" in api.home.config.read_text()


def test_no_secret_is_shown(api: Api, boss: Person, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("SOME_KEY", "sk-ant-api03-" + "x" * 90)
    text = api.home.config.read_text()
    api.home.config.write_text(
        text + '\n[[providers]]\nname = "other"\nbase_url = "https://llm.example.com"\napi_key = "$SOME_KEY"\n'
    )
    page = boss.open("/dashboard/settings?all=1").text
    assert "$SOME_KEY" in page
    assert "x" * 20 not in page


def test_a_viewer_looks_and_changes_nothing(api: Api) -> None:
    _, secret = api.state.keys.create("eyes", role="viewer")
    person = Person(api)
    person.sign_in(secret.reveal())
    assert "max_queue" in person.open("/dashboard/settings").text
    page = person.open("/dashboard/settings/pool.max_queue").text
    assert "/preview" not in page
    csrf = re.findall(r'name="csrf" value="([^"]+)"', page)[0]
    for action in ("pool.max_queue/preview", "pool.max_queue/save", "undo"):
        assert person.post(f"/dashboard/settings/{action}", {"csrf": csrf, "value": "7"}).status_code == 403
