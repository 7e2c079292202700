import time
from collections.abc import Callable

import pytest

from cli.harness import Outcome
from tokenferry.settings import Home
from tokenferry.state import Cooldown, Scope, State

Inside = Callable[..., Outcome]


@pytest.fixture
def noted(home: Home) -> list[Cooldown]:
    until = int(time.time()) + 7500
    cooldowns = [
        Cooldown(Scope("account", "work"), "window", "answer", until, "The account has used up its window 5h."),
        Cooldown(Scope("account", "work", "claude-opus"), "window", "answer", until),
        Cooldown(Scope("account", "spare"), "no-credit", "answer", None, "The account has no credit left."),
        Cooldown(Scope("organization", "org-1", "claude-sonnet"), "rate-limit", "answer", until),
        Cooldown(Scope("account", "done"), "window", "answer", 1_700_000_000),
    ]
    with State(home.state) as state:
        for one in cooldowns:
            state.cooldowns.put(one)
        state.organizations.put("work", "org-1")
    return cooldowns


def left(home: Home) -> set[tuple[str, str]]:
    with State(home.state) as state:
        return {(one.scope.name, one.scope.family) for one in state.cooldowns.list()}


def test_those_at_work_are_listed_with_their_reasons(noted: list[Cooldown], inside: Inside) -> None:
    outcome = inside("cooldown", "list")
    assert outcome.code == 0
    shown = [line.split()[:2] for line in outcome.out.splitlines()]
    assert shown[0] == ["KIND", "NAME"]
    assert sorted(shown[1:]) == [
        ["account", "spare"],
        ["account", "work"],
        ["account", "work"],
        ["organization", "org-1"],
    ]
    assert "(2 h)" in outcome.out
    assert "not known" in outcome.out
    told = inside("cooldown", "list", "--json").json
    by_name = sorted(told, key=lambda one: (one["name"] != "work", one["family"] or ""))
    assert [one["name"] for one in by_name[:2]] == ["work", "work"]
    assert {one["name"] for one in by_name[2:]} == {"spare", "org-1"}
    assert by_name[0]["until"] == noted[0].until
    assert by_name[0]["family"] is None
    assert next(one for one in told if one["name"] == "spare")["until"] is None
    assert "done" in [one["name"] for one in inside("cooldown", "list", "--over", "--json").json]


def test_clearing_an_account_frees_it_for_every_model_and_of_its_organization(
    home: Home, noted: list[Cooldown], inside: Inside
) -> None:
    outcome = inside("cooldown", "clear", "work")
    assert outcome.code == 0
    assert outcome.out.splitlines() == [
        "ended window of account work",
        "ended window of account work, models of claude-opus",
        "ended rate-limit of organization org-1, models of claude-sonnet",
    ]
    assert left(home) == {("spare", ""), ("done", "")}


def test_everything_is_cleared_at_once_and_what_was_over_is_not_reported(
    home: Home, noted: list[Cooldown], inside: Inside
) -> None:
    assert len(inside("cooldown", "clear", "--all", "--json").json) == 4
    assert left(home) == set()
    assert '"action": "cooldown.clear", "name": "spare"' in home.audit.read_text()


@pytest.mark.parametrize("arguments", [["--all"], ["anthropic"]])
def test_nothing_to_clear_is_fine(home: Home, inside: Inside, arguments: list[str]) -> None:
    outcome = inside("cooldown", "clear", *arguments)
    assert outcome.code == 0
    assert "no cooldown" in outcome.one_line()
    assert inside("cooldown", "clear", *arguments, "--json").json == []
    assert inside("cooldown", "list").code == 0


@pytest.mark.parametrize("arguments", [[], ["work", "--all"]])
def test_what_is_to_be_cleared_is_said_once(home: Home, inside: Inside, arguments: list[str]) -> None:
    outcome = inside("cooldown", "clear", *arguments)
    assert outcome.code == 2
    assert "or give --all" in outcome.one_line()
