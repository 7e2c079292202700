"""Client keys move from a file into a shared database, and back, without their secrets."""

from collections.abc import Iterator
from pathlib import Path

import pytest

from tokenferry.secret import Secret
from tokenferry.state import Cooldown, Rights, Scope, State, copy_state


@pytest.fixture
def files(tmp_path: Path) -> Iterator[State]:
    with State(tmp_path / "files" / "state.db", now=lambda: 1_700_000_000) as state:
        yield state


@pytest.fixture
def shared(path: Path) -> Iterator[State]:
    with State(path) as state:
        yield state


def fill(state: State) -> dict[str, Secret]:
    secrets = {name: state.keys.create(name)[1] for name in ("zoe", "adam", "gone", "local")}
    state.keys.restrict("adam", lambda _: Rights(models=("claude-*",)))
    state.keys.label("adam", {"owner": "me"})
    state.keys.allot("zoe", ["20usd/day"])
    state.keys.revoke("gone")
    state.cooldowns.put(Cooldown(Scope("account", "alice"), "rate-limited", "answer", until=4_000_000_000))
    state.organizations.put("alice", "org")
    return secrets


def test_keys_open_the_same_there_and_again_back(files: State, shared: State, tmp_path: Path) -> None:
    secrets = fill(files)
    done = copy_state(files, shared)
    assert (done.keys, done.cooldowns, done.present, done.left) == (3, 1, 0, ())
    own = [key for key in files.keys.list() if key.name != "local"]
    with State(tmp_path / "back" / "state.db") as back:
        copy_state(shared, back)
        for state in (shared, back):
            assert state.keys.list() == own
            state.keys.create("made-since")
            found = {name for name, secret in secrets.items() if state.keys.verify(secret.reveal())}
            assert found == {"zoe", "adam"}
            assert state.keys.revoked(secrets["gone"])
            assert (state.cooldowns.list(), state.organizations.all()) == (files.cooldowns.list(), {"alice": "org"})


def test_it_can_be_repeated_and_names_in_use_are_reported(files: State, shared: State) -> None:
    fill(files)
    _, theirs = shared.keys.create("Zoe")
    assert copy_state(files, shared).left == ("zoe",)
    again = copy_state(files, shared)
    assert (again.keys, again.present, again.left) == (0, 2, ("zoe",))
    assert shared.keys.verify(theirs.reveal()) is not None
    shared.keys.rename("Zoe", "zoe-2")
    assert (copy_state(files, shared).keys, copy_state(files, shared).left) == (1, ())


def test_a_key_that_was_revoked_since_opens_nothing_on_the_way_back(files: State, shared: State) -> None:
    secrets = fill(files)
    copy_state(files, shared)
    shared.keys.revoke("zoe")
    for source, target in ((shared, files), (files, shared)):
        copy_state(source, target)
        assert target.keys.revoked(secrets["zoe"])
        assert not target.keys.revoked(secrets["adam"])
