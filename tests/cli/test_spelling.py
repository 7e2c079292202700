"""Other names of commands: those that go on working do the same, and the rest name the new one."""

from collections.abc import Callable

import pytest

from cli.harness import Outcome
from tokenferry.cli._spelling import current
from tokenferry.errors import UsageError
from tokenferry.settings import Home

Inside = Callable[..., Outcome]


@pytest.mark.parametrize(
    ("hidden", "shown"),
    [
        ("accounts list --json", "account list --json"),
        ("providers show z.ai", "provider show z.ai"),
        ("cooldowns clear work", "cooldown clear work"),
        ("why tf_1", "explain request tf_1"),
        ("route --dry-run --model m", "explain route --dry-run --model m"),
        ("classify answer.http", "explain response answer.http"),
        ("explain --for claude-code --json", "explain credentials --for claude-code --json"),
        ("explain --json", "explain credentials --json"),
        ("seal --accept work", "encryption enable --accept work"),
        ("seal --rotate --forget-key", "encryption rotate-key --forget-key"),
        ("unseal --forget-key", "encryption disable --forget-key"),
        ("explain --help", "explain --help"),
        ("run -- use a --for claude-code", "run -- use a --for claude-code"),
        ("account list", "account list"),
    ],
)
def test_a_hidden_spelling_is_the_new_command(hidden: str, shown: str) -> None:
    assert current(hidden.split()) == shown.split()


@pytest.mark.parametrize(
    ("old", "new"),
    [
        ("keep", "refresh --watch"),
        ("keep --once --json", "refresh --due"),
        ("keep --swap", "refresh --watch --switch-claude-code"),
        ("swap --for claude-code", "claude-code switch --next"),
        ("use work --for claude-code", "claude-code switch NAME"),
        ("use work --for=claude-code", "claude-code switch NAME"),
        ("publish work", "profile publish"),
        ("publish --list", "profile list"),
        ("unpublish work", "profile unpublish"),
        ("explain --account work", "explain account NAME"),
        ("export work --to bundle --with-chain x.json", "export NAME --with-refresh-token"),
        ("key create boss --admin", "key create NAME --role admin"),
        ("key label ci room=4", "key set NAME --label K=V"),
        ("service install --swap", "service install --switch-claude-code"),
    ],
)
def test_an_old_name_is_an_error_with_the_new_one(inside: Inside, old: str, new: str) -> None:
    with pytest.raises(UsageError) as fault:
        current(old.split())
    assert str(fault.value).endswith(f" is now: tokenferry {new}")
    outcome = inside(*old.split())
    assert (outcome.code, outcome.one_line()) == (2, str(fault.value))


def test_a_hidden_spelling_runs(home: Home, inside: Inside) -> None:
    assert inside("accounts", "list", "--json").json == inside("account", "list", "--json").json == []
    assert inside("explain", "--for", "claude-code", "--json").json["programs"][0]["program"] == "claude-code"
    assert inside("route", "--dry-run").code == inside("explain", "route").code
    assert inside("why").one_line() == inside("explain", "request").one_line()
