"""Where a request would go, asked in the dashboard: the same answer as `explain route` gives."""

from admin.rig import Api
from dashboard.person import Person
from tokenferry.credentials import ApiKey
from tokenferry.secret import Secret
from tokenferry.stores import Account


def add(api: Api, name: str) -> None:
    api.broker.add(Account(name, "anthropic", "api-key"), ApiKey(Secret(f"sk-ant-api03-{name}")))


def test_it_names_the_account_that_would_serve_and_why_no_other(api: Api, boss: Person) -> None:
    add(api, "first")
    add(api, "second")
    page = boss.open("/dashboard/routing?try=1&model=claude-opus-5").text
    assert "would serve it, at anthropic" in page
    assert "<option selected>" not in page
    assert "second</span> not:" in page


def test_a_key_that_may_not_ask_for_the_model_is_refused(api: Api, boss: Person) -> None:
    add(api, "first")
    api.state.keys.create("guest")
    api.state.keys.restrict("guest", lambda rights: type(rights)(models=("claude-haiku*",)))
    page = boss.open("/dashboard/routing?try=1&model=claude-opus-5&key=guest").text
    assert "refused with 400" in page
    assert "would serve it" in boss.open("/dashboard/routing?try=1&model=claude-haiku-4-5&key=guest").text


def test_what_is_no_header_or_body_is_a_sentence_and_keeps_what_was_typed(api: Api, boss: Person) -> None:
    add(api, "first")
    page = boss.open("/dashboard/routing?try=1&headers=nonsense").text
    assert "&#39;nonsense&#39; is not a header" in page
    assert ">nonsense</textarea>" in page
    assert "leave one of them out" in boss.open("/dashboard/routing?try=1&model=a&body=%7B%7D").text
    assert boss.open("/dashboard/routing?try=1&body=%7B").status_code == 200


def test_a_viewer_may_ask_as_well(api: Api) -> None:
    add(api, "first")
    _, secret = api.state.keys.create("eyes", role="viewer")
    person = Person(api)
    person.sign_in(secret.reveal())
    assert "would serve it" in person.open("/dashboard/routing?try=1&model=claude-opus-5").text
