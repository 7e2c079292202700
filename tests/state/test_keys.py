import contextlib
import logging
import sqlite3
import subprocess
import sys
import threading
from collections.abc import Iterator
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st
from msgspec.structs import replace

from tokenferry.errors import Conflict, CorruptFile, StorageFailed, UnknownName, UsageError
from tokenferry.secret import Secret
from tokenferry.state import ClientKeys, Database, Decision, Rights, Role, SqliteDatabase, State
from tokenferry.state._migrations import STATE_SCHEMA


class Clock:
    def __init__(self) -> None:
        self.value = 1_000.0

    def __call__(self) -> float:
        return self.value


@pytest.fixture
def clock() -> Clock:
    return Clock()


@pytest.fixture
def state(path: Path, clock: Clock) -> Iterator[State]:
    with State(path, monotonic=clock, now=lambda: 1_700_000_000.9) as state:
        yield state


@pytest.fixture
def elsewhere(path: Path, state: State) -> Iterator[State]:
    with State(path) as other:
        yield other


def test_a_key_is_given_once_and_kept_as_a_digest(state: State, file: Path) -> None:
    key, secret = state.keys.create("laptop")
    assert secret.reveal().startswith("tfk_")
    assert len(secret.reveal()) == 47
    assert (key.name, key.admin, key.created_at) == ("laptop", False, 1_700_000_000)
    assert key.fingerprint == secret.fingerprint
    assert state.keys.verify(secret.reveal()) == key
    state.close()
    assert not [
        each for each in file.parent.rglob("*") if each.is_file() and secret.reveal()[4:].encode() in each.read_bytes()
    ]


def test_admin_keys_look_different(state: State) -> None:
    key, secret = state.keys.create("root", role="admin")
    assert secret.reveal().startswith("tfa_")
    found = state.keys.verify(secret.reveal())
    assert found == key
    assert key.admin


@given(
    presented=st.one_of(
        st.text(), st.text(min_size=47, max_size=47), st.binary().map(lambda raw: raw.decode("latin-1"))
    )
)
def test_whatever_is_presented_is_no_error(presented: str, tmp_path_factory: pytest.TempPathFactory) -> None:
    with State(tmp_path_factory.getbasetemp() / "any" / "state.db") as state:
        assert state.keys.verify(presented) is None


def test_a_key_made_elsewhere_counts_at_once(state: State, elsewhere: State) -> None:
    _, secret = elsewhere.keys.create("laptop")
    assert state.keys.verify(secret.reveal()) is not None


def test_a_key_made_by_another_process_counts_at_once(state: State, file: Path) -> None:
    program = (
        "import sys, pathlib; from tokenferry.state import State\n"
        "with State(pathlib.Path(sys.argv[1])) as state: print(state.keys.create('other')[1].reveal())"
    )
    run = subprocess.run([sys.executable, "-c", program, str(file)], capture_output=True, text=True, check=True)
    key = state.keys.verify(run.stdout.strip())
    assert key is not None
    assert key.name == "other"


def test_a_key_revoked_elsewhere_counts_for_half_a_second_at_most(state: State, elsewhere: State, clock: Clock) -> None:
    _, secret = state.keys.create("laptop")
    (revoked,) = elsewhere.keys.revoke("laptop")
    assert revoked.revoked_at is not None
    clock.value += 0.5
    assert state.keys.verify(secret.reveal()) is None


def test_a_key_revoked_here_stops_at_once(state: State) -> None:
    key, secret = state.keys.create("laptop")
    state.keys.revoke(key.id)
    assert state.keys.verify(secret.reveal()) is None


def file_of(state: State) -> SqliteDatabase:
    assert isinstance(state.keys._database, SqliteDatabase)
    return state.keys._database


def test_a_flood_of_unknown_keys_reads_no_table(state: State, file: Path) -> None:
    statements: list[str] = []
    file_of(state)._reader.set_trace_callback(statements.append)
    for _ in range(100):
        state.keys.verify("tfk_" + "x" * 43)
    assert set(statements) == {"PRAGMA data_version"}


def test_known_keys_ask_the_database_twice_a_second_at_most(state: State, clock: Clock, file: Path) -> None:
    _, secret = state.keys.create("laptop")
    statements: list[str] = []
    file_of(state)._reader.set_trace_callback(statements.append)
    for _ in range(100):
        state.keys.verify(secret.reveal())
        clock.value += 0.01
    assert 1 <= len(statements) <= 3


def test_names_are_unique_among_live_keys_whatever_their_case(state: State) -> None:
    state.keys.create("laptop")
    with pytest.raises(Conflict, match="tokenferry key revoke"):
        state.keys.create("LAPTOP")
    state.keys.revoke("Laptop")
    state.keys.create("laptop")
    assert [key.revoked_at is None for key in state.keys.list()] == [False, True]


@pytest.mark.parametrize("name", ["", ".hidden", "a b", "ä", "x" * 65, "a\nb", "a/b"])
def test_bad_names_are_refused(state: State, name: str) -> None:
    with pytest.raises(UsageError):
        state.keys.create(name)


def test_revoking_what_is_not_there_says_so(state: State) -> None:
    with pytest.raises(UnknownName, match="tokenferry key list"):
        state.keys.revoke("nobody")
    key, _ = state.keys.create("laptop")
    state.keys.revoke("laptop")
    for name in ("laptop", key.id):
        with pytest.raises(UnknownName):
            state.keys.revoke(name)


def test_the_last_use_is_recorded_apart_from_the_request(state: State, elsewhere: State) -> None:
    _, secret = state.keys.create("laptop")
    state.keys.verify(secret.reveal())
    assert elsewhere.keys.list()[0].last_used_at is None
    state.keys.record_use()
    assert elsewhere.keys.list()[0].last_used_at == 1_700_000_000


def test_of_several_who_saw_a_key_the_latest_use_counts(state: State, elsewhere: State) -> None:
    _, secret = state.keys.create("laptop")
    for keys in (elsewhere.keys, state.keys):  # the clock of the latter is years behind
        keys.verify(secret.reveal())
        keys.record_use()
    used = elsewhere.keys.get("laptop").last_used_at
    assert used is not None
    assert used > 1_700_000_000


def test_a_use_that_could_not_be_written_down_is_written_later(
    state: State, monkeypatch: pytest.MonkeyPatch, file: Path
) -> None:
    _, secret = state.keys.create("laptop")
    state.keys.verify(secret.reveal())

    def fail(self: SqliteDatabase) -> None:
        raise StorageFailed("full")

    with monkeypatch.context() as patch:
        patch.setattr(SqliteDatabase, "transaction", fail)
        with pytest.raises(StorageFailed):
            state.keys.record_use()
    state.keys.record_use()
    assert state.keys.get("laptop").last_used_at == 1_700_000_000


def test_an_expired_key_is_none_and_is_distinguished_from_what_never_was_one(path: Path) -> None:
    now = [1000.0]
    with State(path, now=lambda: now[0]) as state:
        key, secret = state.keys.create("ci", expires_at=1010)
        assert state.keys.verify(secret.reveal()) == key
        assert state.keys.expired(secret.reveal()) is None
        assert state.keys.is_sole()
        now[0] = 1010.0
        assert state.keys.verify(secret.reveal()) is None
        assert state.keys.expired(secret.reveal()) == key
        assert not state.keys.is_sole()
        assert state.keys.expired("tfk_" + "x" * 43) is None
        assert state.keys.expired("\xe4" * 47) is None
        state.keys.revoke("ci")
        assert state.keys.expired(secret.reveal()) is None


@pytest.mark.parametrize("expires_at", [0, 1_700_000_000, 4_102_444_800, 1_790_000_000_000])
def test_an_expiry_that_is_over_or_no_date_is_refused(state: State, expires_at: int) -> None:
    with pytest.raises(UsageError, match="lie ahead"):
        state.keys.create("ci", expires_at=expires_at)
    assert state.keys.list() == []


def test_labels_are_kept_changed_and_removed(state: State, elsewhere: State) -> None:
    key, secret = state.keys.create("ci", labels={"team": "build", "room": "4"})
    assert key.labels == {"team": "build", "room": "4"}
    changed = elsewhere.keys.label(key.id, {"room": None, "team": "ops", "note": "ahoy, ä"})
    assert changed.labels == state.keys.get("ci").labels == {"team": "ops", "note": "ahoy, ä"}
    found = elsewhere.keys.verify(secret.reveal())
    assert found is not None
    assert found.labels == changed.labels


@pytest.mark.parametrize(
    "labels", [{"": "x"}, {"a b": "x"}, {"-a": "x"}, {"a": "x" * 257}, {"a": "b\n"}, {f"l{n}": "" for n in range(33)}]
)
def test_labels_that_can_not_be_are_refused(state: State, labels: dict[str, str]) -> None:
    with pytest.raises(UsageError, match="label"):
        state.keys.create("ci", labels=labels)
    state.keys.create("ci")
    with pytest.raises(UsageError, match="label"):
        state.keys.label("ci", labels)
    assert state.keys.get("ci").labels == {}


def test_a_renamed_key_is_the_same_key(state: State, elsewhere: State, clock: Clock) -> None:
    key, secret = state.keys.create("laptop")
    state.keys.create("other")
    renamed = elsewhere.keys.rename("Laptop", "desk")
    assert (renamed.id, renamed.name) == (key.id, "desk")
    clock.value += 0.5
    found = state.keys.verify(secret.reveal())
    assert found == renamed
    with pytest.raises(Conflict, match="'other' exists"):
        state.keys.rename("desk", "other")
    with pytest.raises(UnknownName):
        state.keys.rename("laptop", "x")
    with pytest.raises(UsageError):
        state.keys.rename("desk", "../x")


def test_several_keys_are_revoked_together_or_not_at_all(state: State) -> None:
    made = [state.keys.create(name) for name in ("a", "b", "c")]
    with pytest.raises(UnknownName, match="'nobody'"):
        state.keys.revoke("a", "b", "nobody")
    assert all(state.keys.verify(secret.reveal()) for _, secret in made)
    revoked = state.keys.revoke("a", made[1][0].id, "A")
    assert [key.name for key in revoked] == ["a", "b"]
    assert [state.keys.verify(secret.reveal()) is not None for _, secret in made] == [False, False, True]


def test_one_key_is_found_by_name_or_id_the_live_one_first(state: State) -> None:
    old, _ = state.keys.create("laptop")
    state.keys.revoke("laptop")
    assert state.keys.get("LAPTOP").id == state.keys.get(old.id).id == old.id
    new, _ = state.keys.create("laptop")
    assert state.keys.get("laptop") == new
    assert state.keys.get(old.id).revoked_at is not None
    with pytest.raises(UnknownName):
        state.keys.get("nobody")


def test_one_key_for_inference_is_sole(state: State) -> None:
    assert not state.keys.is_sole()
    state.keys.create("local")
    state.keys.create("root", role="admin")
    assert state.keys.is_sole()
    state.keys.create("laptop")
    assert not state.keys.is_sole()


def test_what_was_known_last_counts_while_the_database_fails(
    state: State, clock: Clock, caplog: pytest.LogCaptureFixture, file: Path
) -> None:
    _, secret = state.keys.create("laptop")
    file_of(state)._reader.close()
    clock.value += 1
    with caplog.at_level(logging.WARNING):
        for _ in range(5):
            assert state.keys.verify(secret.reveal()) is not None
            assert state.keys.verify("tfk_" + "x" * 43) is None
    assert caplog.text.count("as they were known last") == 1


def test_a_file_that_went_bad_since_leaves_the_keys_that_are_known(
    state: State, file: Path, clock: Clock, caplog: pytest.LogCaptureFixture
) -> None:
    _, secret = state.keys.create("laptop")
    with file.open("r+b") as opened:
        opened.write(b"\0" * file.stat().st_size)
    for side in ("-wal", "-shm"):
        file.with_name(file.name + side).write_bytes(b"\xff" * 65_536)
    clock.value += 1
    state.keys._revision = -1  # as if somebody had changed it
    assert state.keys.verify(secret.reveal()) is not None
    assert "as they were known last" in caplog.text
    with pytest.raises((CorruptFile, StorageFailed), match=str(file)):
        state.keys.create("other")
    assert state.keys.verify(secret.reveal()) is not None


def test_what_else_is_written_costs_keys_no_look(state: State, elsewhere: State, clock: Clock, file: Path) -> None:
    _, secret = state.keys.create("laptop")
    state.keys.verify(secret.reveal())
    statements: list[str] = []
    file_of(state)._reader.set_trace_callback(statements.append)
    for number in range(3):
        elsewhere.decisions.add([Decision(f"tf_{number}", 0, {})])
        state.keys.record_use()
        clock.value += 0.5
        assert state.keys.verify(secret.reveal()) is not None
    assert not [one for one in statements if "client_keys" in one]


def test_a_change_that_could_not_be_read_is_read_the_next_time(
    state: State, elsewhere: State, monkeypatch: pytest.MonkeyPatch, file: Path
) -> None:
    _, secret = elsewhere.keys.create("laptop")

    def fail(self: SqliteDatabase, query: str) -> list[sqlite3.Row]:
        raise StorageFailed("busy")

    with monkeypatch.context() as patch:
        patch.setattr(SqliteDatabase, "rows", fail)
        assert state.keys.verify(secret.reveal()) is None
    assert state.keys.verify(secret.reveal()) is not None


def test_threads_share_it(state: State) -> None:
    secrets: list[str] = []

    def work(keys: ClientKeys, number: int) -> None:
        _, secret = keys.create(f"key{number}")
        if keys.verify(secret.reveal()) is not None:
            secrets.append(secret.reveal())

    threads = [threading.Thread(target=work, args=(state.keys, number)) for number in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert len(set(secrets)) == 8


@pytest.mark.parametrize(
    ("role", "prefix"), [("client", "tfk_"), ("admin", "tfa_"), ("viewer", "tfv_"), ("metrics", "tfm_")]
)
def test_a_key_has_one_role_and_shows_it(state: State, elsewhere: State, role: Role, prefix: str) -> None:
    _, secret = state.keys.create("one", role=role)
    assert secret.reveal().startswith(prefix)
    for keys in (state.keys, elsewhere.keys):
        found = keys.verify(secret.reveal())
        assert found is not None
        assert (found.role, found.admin) == (role, role == "admin")
        assert keys.is_sole() is (role == "client")
    if role != "client":
        with pytest.raises(UsageError, match=f"{role} key"):
            state.keys.create("two", role=role, rights=Rights(models=("a",)))


def test_a_database_of_before_has_its_admin_keys_and_the_others(file: Path) -> None:
    secrets = {"a": Secret("tfa_" + "a" * 43), "c": Secret("tfk_" + "c" * 43)}
    old = SqliteDatabase(file, replace(STATE_SCHEMA, migrations=STATE_SCHEMA.migrations[:6]))
    with contextlib.closing(old), old.transaction() as connection:
        for name, secret in secrets.items():
            row = (f"key_{name}", name, int(name == "a"), bytes.fromhex(secret.sha256))
            statement = "INSERT INTO client_keys (id, name, admin, digest, created_at) VALUES (?, ?, ?, ?, 7)"
            connection.execute(statement, row)
    with State(file) as state:
        assert {key.name: key.role for key in state.keys.list()} == {"a": "admin", "c": "client"}
        assert all(state.keys.verify(secret.reveal()) for secret in secrets.values())


def test_budgets_are_stored_with_the_key_and_replaced_as_a_whole(path: Path) -> None:
    with State(path) as state:
        key, _ = state.keys.create("a", budgets=("20 usd/day", "500usd/month"))
        assert key.budgets == ("20usd/day", "500usd/month")
        listed = state.keys.listed()
        assert state.keys.listed() is listed
        assert state.keys.allot("a", ["1Mtokens/week"]).budgets == ("1000000tokens/week",)
        assert state.keys.listed() is not listed
        with pytest.raises(UsageError, match="must be an amount of usd or tokens"):
            state.keys.allot("a", ["much"])
        with pytest.raises(UsageError, match="two budgets in usd a day"):
            state.keys.allot("a", ["1usd/day", "2usd/day"])
        with pytest.raises(UsageError, match="leave its budgets out"):
            state.keys.create("b", role="admin", budgets=("1usd/day",))
    with State(path) as state:
        assert state.keys.get("a").budgets == ("1000000tokens/week",)


def test_a_key_whose_budgets_cannot_be_read_opens_nothing(file: Path) -> None:
    with State(file) as state:
        _, secret = state.keys.create("a")
    with contextlib.closing(sqlite3.connect(file)) as connection, connection:
        connection.execute("""UPDATE client_keys SET budgets = '["1usd/fortnight"]'""")
    with State(file) as state:
        assert state.keys.verify(secret.reveal()) is None
        assert state.keys.get("a").fault == "its budgets can't be read"


def test_a_look_finds_a_new_key_before_the_database_notifies(
    path: Path | Database, monkeypatch: pytest.MonkeyPatch
) -> None:
    kind = SqliteDatabase if isinstance(path, Path) else type(path)
    monkeypatch.setattr(kind, "follow", lambda *_: True)
    with State(path) as here, State(path) as other:
        _, secret = other.keys.create("ci")
        assert here.keys.verify(secret.reveal()) is None
        here.keys.look()
        known = here.keys.verify(secret.reveal())
        assert known is not None
        other.keys.revoke("ci")
        here.keys.look()
        assert here.keys.verify(secret.reveal()) is None
