import time
from collections.abc import Callable

import pytest

from cli.harness import Outcome, tokenferry
from tokenferry.settings import Home
from tokenferry.state import Cooldown, Decision, Scope, State, local_key

Inside = Callable[..., Outcome]
KEY = "sk-ant-api03-" + "a" * 40


@pytest.fixture
def accounts(home: Home) -> None:
    for name in ("work", "spare", "third"):
        assert tokenferry("accounts", "add", name, stdin=f"{KEY}{name}").code == 0
    with State(home.state) as state:
        local_key(home, state)


def bench(home: Home, name: str, family: str = "") -> int:
    until = int(time.time()) + 3600
    with State(home.state) as state:
        state.cooldowns.put(Cooldown(Scope("account", name, family), "window", "answer", until, "It is limited."))
    return until


def test_the_first_ready_account_would_serve_and_every_other_has_its_reason(
    home: Home, accounts: None, inside: Inside
) -> None:
    until = bench(home, "work")
    (told,) = inside("route", "--dry-run", "--model", "claude-sonnet-4-5", "--json").json
    assert (told["provider"], told["model"], told["account"]) == ("anthropic", "claude-sonnet-4-5", "spare")
    assert told["why"] == "it comes first in order"
    assert told["passed_over"] == [
        {"account": "work", "why": "It is limited.", "cause": "window", "until": until},
        {"account": "third", "why": "it could serve, and comes later", "cause": None, "until": None},
    ]
    lines = inside("route", "--dry-run").out.splitlines()
    assert lines[0].split() == ["provider", "anthropic"]
    assert lines[1].startswith("account   spare would serve: ")
    assert lines[2].startswith("account   work not: It is limited., until 20")


def test_a_family_that_is_limited_counts_for_its_models_alone(home: Home, accounts: None, inside: Inside) -> None:
    bench(home, "work", "claude-opus")
    for model, account in (("claude-opus-4-5", "spare"), ("claude-sonnet-4-5", "work")):
        assert inside("route", "--dry-run", "--model", model, "--json").json[0]["account"] == account


def test_a_session_stays_where_it_was_served_last(home: Home, accounts: None, inside: Inside) -> None:
    with State(home.state) as state:
        state.decisions.add(
            Decision(f"tf_{at}", at, {"session": session, "account": account, "status": status})
            for at, (session, account, status) in enumerate(
                [("s", "work", 200), ("s", "third", 200), ("s", "spare", 529), ("t", "spare", 200)]
            )
        )
    (told,) = inside("route", "--dry-run", "--session", "s", "--json").json
    assert (told["account"], told["why"]) == ("third", "its conversation lives there")
    bench(home, "third")
    assert inside("route", "--dry-run", "--session", "s", "--json").json[0]["account"] == "work"


def test_a_key_that_may_use_one_account_is_led_to_no_other(home: Home, accounts: None, inside: Inside) -> None:
    inside("key", "create", "guest", "--account", "third")
    (told,) = inside("route", "--dry-run", "--key", "guest", "--json").json
    assert told["account"] == "third"
    assert {one["why"] for one in told["passed_over"]} == {"its client key may not use it"}


def test_where_nobody_can_serve_it_says_so(home: Home, accounts: None, inside: Inside) -> None:
    for name in ("work", "spare", "third"):
        bench(home, name)
    outcome = inside("route", "--dry-run")
    assert outcome.code == 0
    assert outcome.out.splitlines()[-1].startswith("nobody")


def test_it_sends_nothing_and_wants_to_be_told_so(home: Home, inside: Inside) -> None:
    outcome = inside("route")
    assert outcome.code == 2
    assert "--dry-run" in outcome.one_line()
