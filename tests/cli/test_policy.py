from collections.abc import Callable
from pathlib import Path

import pytest

from cli.harness import Outcome, Terminal, tokenferry
from cli.serving import serving
from tokenferry.settings import Home

Inside = Callable[..., Outcome]

SETUP = "sk-ant-oat01-" + "s" * 90


def write(home: Home, text: str) -> None:
    home.config.write_text(text)
    home.config.chmod(0o600)


def set_own(answer: str = "y") -> tuple[int, str]:
    terminal = Terminal("policy", "set", "own-use")
    terminal.wait_for("[y/N]")
    terminal.type(f"{answer}\n")
    return terminal.end(), terminal.shown


def test_the_statement_is_asked_for_with_the_page_and_its_date_and_then_holds(home: Home, inside: Inside) -> None:
    inside("account", "add", "work", "--provider", "claude-max", stdin=SETUP)
    assert inside("token", "work").code == 7
    assert inside("policy", "show", "--json").json["subscriptions"] == "claude-code-only"
    code, shown = set_own()
    assert code == 0
    for words in ("February 2026", "https://code.claude.com/docs/en/legal-and-compliance", "is mine alone"):
        assert words in shown
    found = inside("policy", "show", "--json").json
    assert (found["subscriptions"], found["source"], found["path"]) == ("own-use", "statement", str(home.statement))
    assert found["stated_at"] > 1_700_000_000
    assert "stated 20" in inside("policy", "show").out
    assert inside("token", "work").out == f"{SETUP}\n"
    assert '"action": "policy.own"' in home.audit.read_text()
    assert "is already own-use" in inside("policy", "set", "own-use").out
    assert inside("policy", "set", "claude-code-only").out == "the policy is claude-code-only now\n"
    assert inside("token", "work").code == 7


@pytest.mark.parametrize(
    ("value", "hint"), [("own-us", "did you mean 'own-use'?"), ("yes", "there are claude-code-only and own-use")]
)
def test_an_unknown_policy_is_an_error_and_changes_nothing(home: Home, inside: Inside, value: str, hint: str) -> None:
    outcome = inside("policy", "set", value)
    assert (outcome.code, outcome.one_line()) == (2, f"there is no policy {value!r}; {hint}")
    assert inside("policy", "show", "--json").json["subscriptions"] == "claude-code-only"


def test_the_old_words_go_on_working(home: Home, inside: Inside) -> None:
    assert inside("policy", "set", "off").out == "the policy is claude-code-only now\n"
    assert inside("policy", "set", "own").one_line().endswith("tokenferry policy set own-use")


def test_a_no_states_nothing(home: Home) -> None:
    assert set_own("n")[0] == 1
    assert not home.statement.exists()


def test_without_a_terminal_no_statement_is_made(home: Home, inside: Inside) -> None:
    outcome = inside("policy", "set", "own-use", stdin="y\n")
    assert outcome.code == 7
    assert outcome.one_line().endswith("tokenferry policy set own-use")
    assert not home.statement.exists()


@pytest.mark.parametrize(("said", "wanted"), [("off", "own"), ("own", "off")])
def test_what_the_configuration_says_is_changed_there(home: Home, inside: Inside, said: str, wanted: str) -> None:
    write(home, f'[policy]\nsubscription = "{said}"\n')
    outcome = inside("policy", "set", wanted)
    assert outcome.code == 3
    assert str(home.config) in outcome.one_line()
    assert inside("policy", "show", "--json").json["source"] == "config.toml"


def test_a_statement_that_can_not_be_understood_stops_everything_and_says_how_to_fix_it(
    home: Home, inside: Inside
) -> None:
    home.statement.write_text("nonsense")
    home.statement.chmod(0o600)
    for arguments in (["policy", "show"], ["account", "list"]):
        outcome = inside(*arguments)
        assert outcome.code == 8
        assert "tokenferry policy set own-use" in outcome.one_line()
    assert inside("doctor").code == 1


# -- keys that are somebody else's


def test_under_own_use_another_persons_key_is_limited_to_accounts_that_bill_no_subscription(
    home: Home, inside: Inside
) -> None:
    write(home, '[policy]\nsubscription = "own"\n')
    inside("account", "add", "mine", "--provider", "claude-max", stdin=SETUP)
    inside("account", "add", "paid", stdin="sk-ant-api03-" + "k" * 80)
    assert inside("key", "create", "laptop", "--label", "owner=me").code == 0
    for options in ((), ("--account", "mine"), ("--account", "paid", "--account", "mine"), ("--pin", "mine")):
        outcome = inside("key", "create", "bobs", "--label", "owner=bob", *options)
        assert outcome.code == 7, options
        assert "client key bobs is bob's" in outcome.one_line()
    assert inside("key", "create", "bobs", "--label", "owner=bob", "--account", "paid").code == 0
    assert inside("key", "set", "bobs", "--any-account").code == 7
    assert inside("key", "set", "bobs", "--account", "mine").code == 7
    assert inside("key", "set", "laptop", "--label", "owner=bob").code == 7
    assert inside("key", "set", "laptop", "--label", "owner-").code == 0
    assert inside("key", "create", "watch", "--role", "admin", "--label", "owner=bob").code == 0, "no inference"
    assert [key["name"] for key in inside("key", "list", "--json").json] == ["laptop", "bobs", "watch"]


def test_own_use_can_not_be_stated_while_another_person_has_a_key_for_everything(home: Home, inside: Inside) -> None:
    assert inside("key", "create", "bobs", "--label", "owner=bob").code == 0
    outcome = inside("policy", "set", "own-use")
    assert outcome.code == 7
    assert "client key bobs is bob's and may use every account" in outcome.one_line()
    assert inside("key", "revoke", "bobs").code == 0
    assert "unless a person states on a terminal" in inside("policy", "set", "own-use").one_line()


def test_a_gateway_does_not_start_to_serve_a_subscription_to_another_person(home: Home, inside: Inside) -> None:
    assert inside("key", "create", "bobs", "--label", "owner=bob").code == 0
    write(home, '[policy]\nsubscriptions = "own-use"\n')
    outcome = tokenferry("serve", "--port", "0")
    assert outcome.code == 7
    assert "tokenferry key set bobs --account NAME" in outcome.err


def test_under_own_it_listens_on_this_machine_alone(home: Home) -> None:
    write(home, '[policy]\nsubscriptions = "own-use"\n\n[server]\nhost = "0.0.0.0"\nport = 0\n')
    outcome = tokenferry("serve")
    assert outcome.code in {3, 7}
    assert "is not a loopback address" in outcome.err


def test_a_gateway_that_serves_does_not_follow_to_own_with_such_a_key(
    home: Home, inside: Inside, tmp_path: Path
) -> None:
    write(home, '[policy]\nsubscriptions = "claude-code-only"\n')
    assert inside("key", "create", "bobs", "--label", "owner=bob").code == 0
    with serving(tmp_path) as served:
        write(home, '[policy]\nsubscriptions = "own-use"\n')
        served.hears("client key bobs is bob's")
