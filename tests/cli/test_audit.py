import json
from collections.abc import Callable

from cli.harness import Outcome
from leaks import shows
from tokenferry.settings import Home
from tokenferry.state import GatewayRegistration

Inside = Callable[..., Outcome]


def actions(home: Home) -> list[tuple[str, str]]:
    entries = [json.loads(line) for line in home.audit.read_text().splitlines()]
    return [(entry["action"], entry["name"]) for entry in entries]


def test_each_command_that_changes_a_key_or_an_account_leaves_a_line(home: Home, inside: Inside) -> None:
    first, second = "sk-ant-api03-" + "a" * 40, "sk-ant-api03-" + "b" * 40
    key = inside("key", "create", "laptop").out.strip()
    inside("key", "revoke", "laptop")
    inside("account", "add", "work", stdin=first)
    inside("account", "add", "work", "--replace", stdin=second)
    inside("use", "work")
    inside("account", "confirm", "work")
    inside("account", "remove", "work", "--yes")
    assert actions(home) == [
        ("key.create", "laptop"),
        ("key.revoke", "laptop"),
        ("account.add", "work"),
        ("account.replace", "work"),
        ("account.use", "work"),
        ("account.confirm", "work"),
        ("account.remove", "work"),
    ]
    assert not shows(home.audit.read_text(), key, first, second)


def test_what_fails_or_only_looks_leaves_none(home: Home, inside: Inside) -> None:
    inside("key", "revoke", "nobody")
    inside("account", "remove", "nobody", "--yes")
    inside("use", "nobody")
    inside("key", "list")
    inside("account", "list")
    assert not home.audit.exists()


def test_the_local_key_is_reported_when_it_is_made(home: Home, registered: GatewayRegistration, inside: Inside) -> None:
    inside("token", "--gateway")
    inside("token", "--gateway")
    assert actions(home) == [("key.create", "local")]
    home.local_key.unlink()
    inside("token", "--gateway")
    assert actions(home)[1:] == [("key.revoke", "local"), ("key.create", "local")]
