"""Client keys in the dashboard: made and shown once, limited, renamed, revoked."""

import re
import time

import pytest

from admin.rig import Api
from dashboard.person import Person
from ledger.books import PRICES, entry
from tokenferry.ledger import Ledger

KEY = re.compile(r"tfk_[A-Za-z0-9_-]{20,}")


def made(api: Api, name: str = "anna", **fields: str) -> str:
    """The id of a key that was made directly."""
    key, _ = api.state.keys.create(name)
    return key.id


def test_a_key_is_shown_once_with_lines_that_connect(api: Api, boss: Person) -> None:
    page = boss.act(
        "/dashboard/keys/new",
        "/dashboard/keys/new",
        name="anna",
        amount_0="20",
        unit_0="usd",
        period_0="day",
        models="claude-*",
    )
    assert page.status_code == 200
    assert page.headers["cache-control"] == "no-store"
    (secret,) = set(KEY.findall(page.text))
    assert api.state.keys.verify(secret) is not None
    assert f"export ANTHROPIC_AUTH_TOKEN={secret}" in page.text
    assert f"export ANTHROPIC_BASE_URL={api.url}" in page.text
    assert "curl &#34;$ANTHROPIC_BASE_URL/v1/messages&#34;" in page.text
    assert "claude-haiku-4-5" in page.text
    key = api.state.keys.get("anna")
    assert (key.rights.models, key.budgets) == (("claude-*",), ("20usd/day",))
    for path in ("/dashboard/keys", f"/dashboard/keys/{key.id}", "/dashboard/"):
        assert secret not in boss.open(path).text
    assert secret not in api.home.audit.read_text()
    assert "key.create" in api.home.audit.read_text()


def test_a_key_whose_budget_is_used_up_is_not_said_to_be_live(api: Api, boss: Person) -> None:
    id_ = made(api)
    api.state.keys.allot("anna", ["1usd/day"])
    assert "used up" not in boss.open("/dashboard/keys").text
    with Ledger(api.home.ledger) as ledger:
        spent = entry(1, at=time.time(), key_id=id_, key_name="anna", input=10**7, output=0)
        ledger.write([spent], PRICES)
    for path in ("/dashboard/keys", f"/dashboard/keys/{id_}"):
        page = boss.open(path).text.partition("anna</")[2]
        assert page.index('<span class="state warning"><span aria-hidden="true">▲</span> used up</span>') < 200


def test_all_that_is_wrong_is_said_at_once_each_beside_its_field(api: Api, boss: Person) -> None:
    made(api)
    typed = {"name": "anna", "expires": "90", "accounts": "nobody", "labels": "team", "tokens_per_minute": "many"}
    typed |= {"amount_0": "lots", "amount_1": "5", "amount_2": "7", "unit_1": "tokens", "unit_2": "tokens"}
    typed |= {"period_1": "week", "period_2": "week"}
    page = boss.act("/dashboard/keys/new", "/dashboard/keys/new", **typed).text
    wrong = ("name", "expires", "accounts", "labels", "tokens_per_minute", "amount_0", "amount_2")
    for name in wrong:
        assert f'name="{name}" id="field-{name}" aria-invalid="true" aria-describedby="why-{name}"' in page
        assert f'href="#field-{name}"' in page
        assert f'value="{typed[name]}"' in page
    assert page.count("aria-invalid") == len(wrong)
    assert [key.name for key in api.state.keys.list()].count("anna") == 1


def test_budgets_are_lines_of_amount_unit_and_period(api: Api, boss: Person) -> None:
    path = f"/dashboard/keys/{made(api)}"
    rows = {"amount_0": "20", "unit_0": "usd", "period_0": "day", "amount_1": "1.5M", "unit_1": "tokens"}
    boss.act(path, path, **rows, period_1="total")
    assert api.state.keys.get("anna").budgets == ("20usd/day", "1500000tokens/total")
    page = boss.open(path).text
    for name, value in (("amount_0", "20"), ("amount_1", "1500000"), ("amount_2", "")):
        assert re.search(rf'id="field-{name}" value="{value}"', page)
    assert page.count('<option value="total" selected>') == 1
    boss.act(path, path, amount_0="", amount_1="1.5M", unit_1="tokens", period_1="total")
    assert api.state.keys.get("anna").budgets == ("1500000tokens/total",)
    refused = boss.act(path, f"{path}/rename", name="a b").text
    assert re.search(r'id="field-amount_0" value="1500000"', refused), "another form's fields stay as they are"


def test_what_was_typed_stays_beside_the_sentence_that_refuses_it(boss: Person) -> None:
    for fields, sentence in (
        ({"name": "a b"}, "be a client key"),
        ({"name": "a", "expires": "90"}, "not a span of time"),
        ({"name": "a", "requests_per_minute": "many"}, "not a whole number"),
        ({"name": "a", "labels": "team"}, "not a label"),
        ({"name": "a", "accounts": "nobody"}, "There is no account"),
        ({"name": "a", "amount_0": "lots"}, "be an amount; give an amount such as 20"),
    ):
        answer = boss.act("/dashboard/keys/new", "/dashboard/keys/new", **fields)
        assert answer.status_code in {400, 404}
        assert 'role="alert"' in answer.text
        assert sentence in answer.text
        for value in fields.values():
            assert f'value="{value}"' in answer.text


def test_rights_limits_and_labels_are_what_the_form_says(api: Api, boss: Person) -> None:
    path = f"/dashboard/keys/{made(api)}"
    page = boss.act(path, path, models="claude-haiku*", requests_per_minute="60", labels="team=build")
    assert "Changed key anna" in page.text
    key = api.state.keys.get("anna")
    assert (key.rights.models, key.caps.requests_per_minute, dict(key.labels)) == (
        *(("claude-haiku*",), 60, {"team": "build"}),
    )
    boss.act(path, path, models="", requests_per_minute="", labels="")
    key = api.state.keys.get("anna")
    assert (key.rights.is_everything, key.caps.requests_per_minute, dict(key.labels)) == (True, 0, {})


def test_a_key_is_renamed_and_revoked(api: Api, boss: Person) -> None:
    path = f"/dashboard/keys/{made(api)}"
    assert "is otto now" in boss.act(path, f"{path}/rename", name="otto").text
    assert "Revoked key otto" in boss.act(path, f"{path}/revoke").text
    assert not api.state.keys.get("otto").is_live(time.time())
    assert "otto" not in boss.open("/dashboard/keys").text.partition("<tbody>")[2]
    assert "otto" in boss.open("/dashboard/keys?state=all").text.partition("<tbody>")[2]


def test_the_list_sorts_by_links_and_shows_what_was_used_today(api: Api, boss: Person) -> None:
    keys = [api.state.keys.create(name)[0] for name in ("anna", "zoe")]
    with Ledger(api.home.ledger) as ledger:
        ledger.write([entry(1, at=time.time(), key_id=keys[1].id, key_name="zoe", output=10**6)], PRICES)
    page = boss.open("/dashboard/keys?sort=today").text
    assert page.index(">zoe<") < page.index(">anna<")
    assert "1 requests" in page
    assert 'aria-sort="ascending"' in page


@pytest.mark.parametrize("action", ["", "/rename", "/revoke"])
def test_an_admin_key_is_changed_by_the_command_alone(api: Api, boss: Person, action: str) -> None:
    key, _ = api.state.keys.create("root", role="admin")
    path = f"/dashboard/keys/{key.id}"
    page = boss.open(path).text
    assert f'action="{path}{action}"' not in page
    csrf = re.findall(r'name="csrf" value="([^"]+)"', page)[0]
    answer = boss.post(path + action, {"csrf": csrf, "name": "other"})
    assert answer.status_code == 403
    assert api.state.keys.get("root").is_live(time.time())


def test_a_viewer_sees_keys_and_has_no_form(api: Api) -> None:
    made(api)
    _, secret = api.state.keys.create("eyes", role="viewer")
    person = Person(api)
    person.sign_in(secret.reveal())
    page = person.open("/dashboard/keys").text
    assert "anna" in page
    assert "/dashboard/keys/new" not in page
    assert person.open("/dashboard/keys/new").status_code == 403
