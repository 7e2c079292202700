from collections.abc import Callable

from cli.harness import Outcome, tokenferry
from tokenferry.settings import Home
from tokenferry.state import State

Inside = Callable[..., Outcome]


def test_a_new_key_is_alone_on_stdout_and_works(home: Home) -> None:
    outcome = tokenferry("key", "create", "laptop")
    assert outcome.code == 0
    key = outcome.out.strip()
    assert outcome.out == f"{key}\n"
    assert "laptop" in outcome.err
    assert key not in outcome.err
    with State(home.state) as state:
        found = state.keys.verify(key)
    assert found is not None
    assert (found.name, found.admin) == ("laptop", False)


def test_json_holds_the_key_once_and_its_name_and_id(home: Home, inside: Inside) -> None:
    made = inside("key", "create", "boss", "--admin", "--json").json
    assert made["key"].startswith("tfa_")
    assert (made["name"], made["admin"]) == ("boss", True)
    listed = inside("key", "list", "--json")
    assert listed.json[0]["id"] == made["id"]
    assert listed.hides(made["key"])


def test_a_revoked_key_stays_in_the_list_and_works_no_more(home: Home, inside: Inside) -> None:
    key = inside("key", "create", "laptop").out.strip()
    assert inside("key", "revoke", "laptop").out.startswith("revoked client key laptop")
    assert inside("key", "list", "--json").json[0]["revoked_at"] is not None
    assert inside("key", "list").out.splitlines()[0].split()[0] == "NAME"
    with State(home.state) as state:
        assert state.keys.verify(key) is None


def test_what_can_not_be_done_is_a_sentence(home: Home, inside: Inside) -> None:
    assert "no client key yet" in inside("key", "list").err
    inside("key", "create", "laptop")
    assert inside("key", "create", "laptop").code == 1
    assert inside("key", "create", "../x").code == 2
    assert inside("key", "revoke", "nobody").code == 4
    home.state.chmod(0o644)
    assert inside("key", "list").code == 8
