"""A record of a client key that can't be understood costs that key alone, and a revocation is true when reported."""

import sqlite3
from collections.abc import Iterator
from contextlib import closing
from itertools import count
from pathlib import Path
from tempfile import TemporaryDirectory

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from cli.harness import Outcome, tokenferry
from effort import effort
from tokenferry.errors import CorruptFile, StorageFailed
from tokenferry.settings import Home
from tokenferry.state import Rights, State, local_key

NO_TEXT = b"\xff{}"
"""What is written as a text, and is not UTF-8."""

DAMAGE = [
    ("rights", "{bad"),
    ("rights", "[]"),
    ("rights", "null"),
    ("rights", '"all"'),
    ("rights", "[" * 100_000),
    ("rights", '{"budget": 5}'),
    ("rights", '{"models": "*"}'),
    ("rights", '{"models": [5]}'),
    ("rights", '{"models": [""]}'),
    ("rights", '{"pin": []}'),
    ("rights", '{"pin": ""}'),
    ("labels", "{bad"),
    ("labels", "[]"),
    ("labels", '{"owner": 5}'),
    ("name", "evil\x1b[31m\n"),
    ("admin", 7),
    ("admin", 1),
    ("role", "admin"),
    ("role", "owner"),
    ("expires_at", 10**18),
    ("expires_at", -(10**18)),
    ("digest", b"short"),
    *((column, NO_TEXT) for column in ("rights", "labels", "name", "role")),
]


def damage(path: Path, column: str, value: object, name: str = "bad") -> None:
    with closing(sqlite3.connect(path)) as connection:
        new = "CAST(? AS TEXT)" if value == NO_TEXT else "?"
        connection.execute(f"UPDATE client_keys SET {column} = {new} WHERE name = ?", (value, name))
        connection.commit()


@pytest.fixture
def state(home: Home) -> Iterator[State]:
    with State(home.state, monotonic=map(float, count()).__next__) as state:  # it looks at each question
        yield state


@pytest.mark.parametrize(("column", "value"), DAMAGE)
def test_a_damaged_record_costs_its_key_alone(home: Home, state: State, column: str, value: object) -> None:
    good, secret = state.keys.create("good")
    bad, bad_secret = state.keys.create("bad", rights=Rights(models=("haiku",)))
    damage(home.state, column, value)
    with State(home.state) as other:
        for keys in (state.keys, other.keys):
            assert keys.verify(bad_secret.reveal()) is None
            assert keys.expired(bad_secret.reveal()) is None
            assert keys.verify(secret.reveal()) is not None
            (found,) = [key for key in keys.list() if key.id == bad.id]
            assert found.fault == f"its {'role' if column == 'admin' else column} can't be read"
            assert "\n" not in found.name
            assert not found.is_live(0)
        with pytest.raises(CorruptFile, match=f"key revoke {bad.id}"):
            other.keys.restrict(bad.id, lambda rights: rights)
        (revoked,) = other.keys.revoke(bad.id)
        assert revoked.revoked_at is not None
        assert other.keys.get("good").id == good.id


@pytest.mark.parametrize(("column", "value"), [("created_at", -1), ("last_used_at", 10**15)])
def test_a_time_that_decides_nothing_costs_nothing(home: Home, state: State, column: str, value: int) -> None:
    _, secret = state.keys.create("bad")
    damage(home.state, column, value)
    with State(home.state) as other:
        assert other.keys.verify(secret.reveal()) is not None
    assert tokenferry("key", "list").code == 0


@settings(max_examples=effort(30))
@given(text=st.text(max_size=30) | st.sampled_from(['{"models": ["a"], "tpm": 1}', '{"models": {}}', '{"a": []}']))
def test_whatever_the_rights_say_a_key_is_never_freer_than_they_are(text: str) -> None:
    with (
        TemporaryDirectory() as folder,
        State(Path(folder) / "home" / "state.db", monotonic=map(float, count()).__next__) as state,
    ):
        _, secret = state.keys.create("bad", rights=Rights(models=("haiku",)))
        try:
            damage(Path(folder) / "home" / "state.db", "rights", text)
        except UnicodeEncodeError:
            return
        key = state.keys.verify(secret.reveal())
        assert key is None or text == "{}"


def test_keys_are_read_again_where_the_table_of_revisions_was_lost(home: Home, state: State) -> None:
    _, secret = state.keys.create("laptop")
    with closing(sqlite3.connect(home.state)) as connection:
        connection.execute("DELETE FROM revisions")
        connection.commit()
    assert state.keys.verify(secret.reveal()) is not None
    assert state.cooldowns.list() == ()
    with State(home.state) as other:
        other.keys.revoke("laptop")
    assert state.keys.verify(secret.reveal()) is None


def test_a_damaged_local_key_is_replaced(home: Home, state: State) -> None:
    secret = local_key(home, state)
    damage(home.state, "rights", "{bad", "local")
    new = local_key(home, state)
    assert new != secret
    assert state.keys.verify(new.reveal()) is not None


def test_a_revocation_that_did_not_happen_is_not_reported(home: Home, state: State) -> None:
    _, secret = state.keys.create("laptop")
    with closing(sqlite3.connect(home.state)) as connection:
        connection.execute(
            "CREATE TRIGGER no BEFORE UPDATE OF revoked_at ON client_keys BEGIN SELECT RAISE(IGNORE); END"
        )
    with pytest.raises(StorageFailed, match="laptop is still good"):
        state.keys.revoke("laptop")
    assert state.keys.verify(secret.reveal()) is not None
    outcome = tokenferry("key", "revoke", "laptop")
    assert outcome.code == 1
    assert "revoked client key" not in outcome.out
    assert not home.audit.exists() or "key.revoke" not in home.audit.read_text()


def test_a_revocation_in_a_file_that_was_replaced_is_not_reported(home: Home, state: State) -> None:
    state.keys.create("laptop")
    with closing(sqlite3.connect(home.state)) as connection:
        connection.execute("PRAGMA wal_checkpoint(TRUNCATE)")
    copy = home.state.read_bytes()
    home.state.unlink()
    home.state.write_bytes(copy)
    home.state.chmod(0o600)
    for side in ("-wal", "-shm"):
        home.state.with_name(home.state.name + side).unlink(missing_ok=True)
    with pytest.raises(StorageFailed):
        state.keys.revoke("laptop")


def test_commands_go_on_beside_a_damaged_key(home: Home, state: State) -> None:
    state.keys.create("good")
    key, _ = state.keys.create("bad")
    damage(home.state, "rights", "{bad")
    rows: Outcome = tokenferry("key", "list", "--json")
    assert {row["name"]: row["state"] for row in rows.json} == {"good": "live", "bad": "damaged"}
    assert tokenferry("key", "show", "bad").code == 0
    assert f"tokenferry key revoke {key.id}" in tokenferry("doctor").out
    assert tokenferry("key", "revoke", "bad").code == 0
    assert "rights can't be read" not in tokenferry("doctor").out
