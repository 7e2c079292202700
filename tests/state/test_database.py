import contextlib
import os
import sqlite3
import stat
import subprocess
import sys
from pathlib import Path

import pytest
from msgspec.structs import replace

from tokenferry.errors import Conflict, CorruptFile, StorageFailed, UnsafeFile
from tokenferry.secret import Secret
from tokenferry.state import Cooldown, Decision, Scope, SqliteDatabase, State, _sqlite, _state
from tokenferry.state._migrations import STATE_SCHEMA

# As version 1 made it: this text is never edited.
FIRST_SCHEMA = """
    CREATE TABLE client_keys (
        id TEXT PRIMARY KEY,
        name TEXT NOT NULL,
        admin INTEGER NOT NULL,
        digest BLOB NOT NULL UNIQUE,
        created_at INTEGER NOT NULL,
        last_used_at INTEGER,
        revoked_at INTEGER
    ) STRICT;
    CREATE UNIQUE INDEX live_client_key_names ON client_keys (name COLLATE NOCASE) WHERE revoked_at IS NULL;
    PRAGMA user_version = 1;
"""


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "home" / "state.db"


def test_every_file_is_private_whatever_the_umask(path: Path) -> None:
    old = os.umask(0)
    try:
        with State(path) as state:
            state.keys.create("laptop")
            modes = {each.name: stat.S_IMODE(each.stat().st_mode) for each in path.parent.iterdir() if each.is_file()}
            assert modes == dict.fromkeys(("state.db", "state.db-wal", "state.db-shm"), 0o600)
            assert stat.S_IMODE(path.parent.stat().st_mode) == 0o700
    finally:
        os.umask(old)


@pytest.mark.parametrize("name", ["state.db", "state.db-wal"])
def test_a_file_that_others_can_read_is_refused_and_left_alone(path: Path, name: str) -> None:
    with State(path):
        pass
    file = path.with_name(name)
    file.touch()
    file.chmod(0o644)
    with pytest.raises(UnsafeFile, match="chmod 0600"):
        State(path)
    assert stat.S_IMODE(file.stat().st_mode) == 0o644


def test_a_symbolic_link_is_refused(path: Path, tmp_path: Path) -> None:
    path.parent.mkdir(0o700)
    (tmp_path / "real.db").touch(0o600)
    path.symlink_to(tmp_path / "real.db")
    with pytest.raises(UnsafeFile, match="symbolic link"):
        State(path)


def test_what_is_no_database_is_left_as_it_is(path: Path) -> None:
    path.parent.mkdir(0o700)
    path.touch(0o600)
    path.write_bytes(b"this is no database, but long enough to look at" * 30)
    with pytest.raises(CorruptFile, match="tokenferry key create"):
        State(path)
    assert path.read_bytes().startswith(b"this is no database")


def test_a_newer_version_is_refused(path: Path) -> None:
    with State(path):
        pass
    connection = sqlite3.connect(path)
    connection.execute("PRAGMA user_version = 99")
    connection.close()
    with pytest.raises(CorruptFile, match="newer tokenferry"):
        State(path)


@pytest.fixture
def first_version(path: Path) -> Secret:
    """A file as the first version left it, with a live key and a revoked one; the live one."""
    live, revoked = Secret("tfk_" + "a" * 43), Secret("tfk_" + "b" * 43)
    path.parent.mkdir(0o700)
    path.touch(0o600)
    connection = sqlite3.connect(path, isolation_level=None)
    connection.execute("PRAGMA journal_mode = WAL")
    connection.executescript(FIRST_SCHEMA)
    rows = [
        ("key_1", "laptop", 0, bytes.fromhex(live.sha256), 1_700_000_000, 1_700_000_001, None),
        ("key_2", "gone", 1, bytes.fromhex(revoked.sha256), 1_700_000_000, None, 1_700_000_002),
    ]
    connection.executemany("INSERT INTO client_keys VALUES (?, ?, ?, ?, ?, ?, ?)", rows)
    connection.close()
    return live


def test_a_file_of_the_first_version_opens_with_all_that_was_in_it(path: Path, first_version: Secret) -> None:
    with State(path, now=lambda: 1_800_000_000) as state:
        laptop, gone = state.keys.list()
        assert (laptop.id, laptop.name, laptop.labels, laptop.expires_at) == ("key_1", "laptop", {}, None)
        assert (laptop.last_used_at, gone.revoked_at) == (1_700_000_001, 1_700_000_002)
        assert state.keys.verify(first_version.reveal()) == laptop
        state.keys.label("laptop", {"team": "ops"})
        state.cooldowns.put(Cooldown(Scope("account", "alice"), "billing", "test"))
        state.decisions.add([Decision("tf_1", 1, {})])
        assert state.logins.take(state.logins.begin("console", first_version), first_version) is not None


def test_a_process_of_the_first_version_goes_on_while_the_file_is_brought_forward(
    path: Path, first_version: Secret
) -> None:
    old = sqlite3.connect(path, isolation_level=None)
    old.execute("SELECT * FROM client_keys").fetchall()
    with State(path) as state:
        assert state.keys.verify(first_version.reveal()) is not None
        old.execute("UPDATE client_keys SET last_used_at = 1750000000 WHERE id = 'key_1'")
        old.execute("UPDATE client_keys SET revoked_at = 1750000000 WHERE id = 'key_1'")
        assert state.keys.verify("tfk_" + "x" * 43) is None
        assert state.keys.verify(first_version.reveal()) is None
    old.close()


def test_a_migration_that_fails_leaves_the_file_as_it_was(
    path: Path, first_version: Secret, monkeypatch: pytest.MonkeyPatch
) -> None:
    known = STATE_SCHEMA.migrations
    before = len(known)
    with monkeypatch.context() as newer:
        more = replace(STATE_SCHEMA, migrations=(*known, "CREATE TABLE a (b); SELECT nonsense;"))
        newer.setattr(_state, "STATE_SCHEMA", more)
        with pytest.raises(StorageFailed, match="nonsense"):
            State(path)
    connection = sqlite3.connect(path)
    assert connection.execute("PRAGMA user_version").fetchone() == (1,)
    assert not connection.execute("SELECT * FROM sqlite_schema WHERE name IN ('a', 'decisions')").fetchall()
    connection.close()
    with State(path) as state:
        assert state.keys.verify(first_version.reveal()) is not None
        assert state.keys._database.rows("PRAGMA user_version")[0][0] == before


def test_a_locked_file_is_an_error_that_says_so(path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(_sqlite, "_BUSY_SECONDS", 0.05)
    with State(path) as state:
        _, secret = state.keys.create("laptop")
        other = sqlite3.connect(path, isolation_level=None)
        other.execute("BEGIN IMMEDIATE")
        with pytest.raises(StorageFailed, match=r"state\.db can't be used: another process.*try again"):
            state.keys.create("ci")
        assert state.keys.verify(secret.reveal()) is not None
        assert state.keys.list()
        other.execute("ROLLBACK")
        other.close()
        state.keys.create("ci")


def test_a_full_disk_is_an_error_that_says_so_and_nothing_is_written_by_half(path: Path) -> None:
    database = SqliteDatabase(path, STATE_SCHEMA)
    (pages,) = database._writer.execute("PRAGMA page_count").fetchone()
    database._writer.execute(f"PRAGMA max_page_count = {pages}")
    keys = [(f"tf_{number}", 0, "x" * 1000) for number in range(100)]

    def write() -> None:
        with database.transaction() as connection:
            connection.executemany("INSERT INTO decisions (request_id, at, content) VALUES (?, ?, ?)", keys)

    for _ in range(2):
        with pytest.raises(StorageFailed, match="its disk is full; make room there"):
            write()
    assert database.rows("SELECT * FROM decisions") == []
    database._writer.execute("PRAGMA max_page_count = 100000")
    write()
    assert len(database.rows("SELECT * FROM decisions")) == 100
    database.close()


def test_a_disk_that_takes_no_more_bytes_costs_no_known_key(path: Path) -> None:
    """The limit of a process on the size of its files fails as a full disk does, when a transaction is to be ended."""
    program = (
        "import pathlib, resource, signal, sys; from tokenferry.errors import StorageFailed; "
        "from tokenferry.state import State\n"
        "signal.signal(signal.SIGXFSZ, signal.SIG_IGN)\n"
        "state = State(pathlib.Path(sys.argv[1]))\n"
        "_, secret = state.keys.create('laptop')\n"
        "resource.setrlimit(resource.RLIMIT_FSIZE, (8192, resource.RLIM_INFINITY))\n"
        "for _ in range(3):\n"
        "    try: state.keys.create('ci')\n"
        "    except StorageFailed as fault: print(fault)\n"
        "    else: print('written')\n"
        "    assert state.keys.verify(secret.reveal()) is not None\n"
        "resource.setrlimit(resource.RLIMIT_FSIZE, (resource.RLIM_INFINITY, resource.RLIM_INFINITY))\n"
        "state.keys.create('ci')\n"
        "state.close()"
    )
    run = subprocess.run([sys.executable, "-c", program, str(path)], capture_output=True, text=True, check=False)
    assert run.returncode == 0, run.stderr
    assert run.stdout.count("state.db can't be used: ") == 3, run.stdout
    assert "disk" in run.stdout
    with State(path) as state:
        assert [key.name for key in state.keys.list()] == ["laptop", "ci"]


@pytest.mark.skipif(os.geteuid() == 0, reason="nothing is read-only to root")
def test_a_read_only_file_can_be_read_and_not_written(path: Path) -> None:
    with State(path) as state:
        _, secret = state.keys.create("laptop")
    path.chmod(0o400)
    with State(path) as state:
        assert state.keys.verify(secret.reveal()) is not None
        with pytest.raises(StorageFailed, match="make it and its folder writable"):
            state.keys.create("ci")


def test_a_read_only_connection_is_an_error_that_says_so(path: Path) -> None:
    with State(path) as state:
        _, secret = state.keys.create("laptop")
        assert isinstance(state.keys._database, SqliteDatabase)
        state.keys._database._writer.execute("PRAGMA query_only = 1")
        with pytest.raises(StorageFailed, match="make it and its folder writable"):
            state.keys.create("ci")
        assert state.keys.verify(secret.reveal()) is not None


def test_a_failed_transaction_leaves_nothing(path: Path) -> None:
    database = SqliteDatabase(path, STATE_SCHEMA)

    def write_and_fail() -> None:
        with database.transaction() as connection:
            connection.execute(
                "INSERT INTO client_keys (id, name, admin, digest, created_at) VALUES ('a', 'b', 0, x'00', 0)"
            )
            connection.execute("SELECT nonsense")

    with pytest.raises(StorageFailed, match="nonsense"):
        write_and_fail()
    assert database.rows("SELECT * FROM client_keys") == []
    database.close()
    database.close()


def test_many_processes_may_open_a_new_one_at_once(path: Path) -> None:
    program = (
        "import sys, pathlib; from tokenferry.state import State\n"
        "sys.stdin.readline()\n"
        "with State(pathlib.Path(sys.argv[1])) as state: state.keys.create(sys.argv[2])"
    )
    processes = [
        subprocess.Popen([sys.executable, "-c", program, str(path), f"k{number}"], stdin=subprocess.PIPE)
        for number in range(4)
    ]
    for process in processes:
        assert process.stdin is not None
        process.stdin.write(b"\n")
        process.stdin.flush()
    for process in processes:
        process.communicate()
        assert process.returncode == 0
    with State(path) as state:
        assert len(state.keys.list()) == 4


def test_a_file_of_before_keeps_the_order_of_its_rows_and_finds_old_decisions(path: Path) -> None:
    old = SqliteDatabase(path, replace(STATE_SCHEMA, migrations=STATE_SCHEMA.migrations[:10]))
    contents = (
        '{"session": "s", "account": "work", "status": 200}',
        '{"session": "s", "account": "x", "status": "?"}',
        "{",
    )
    with contextlib.closing(old), old.transaction() as connection:
        for number, name in enumerate("zya"):
            key = (f"key_{name}", name, bytes([number]) * 32)
            connection.execute(
                "INSERT INTO client_keys (id, name, admin, digest, created_at) VALUES (?, ?, 0, ?, 7)", key
            )
            session = (bytes([number]), f"session_{name}", name)
            connection.execute(
                "INSERT INTO sessions (digest, id, way, name, key, role, address, created_at, seen_at, expires_at) "
                "VALUES (?, ?, 'command', ?, '', 'admin', '', 7, 7, 4000000000)",
                session,
            )
            decision = (f"r{number}", contents[number])
            connection.execute("INSERT INTO decisions (request_id, at, content) VALUES (?, 7, ?)", decision)
        connection.execute("DELETE FROM client_keys WHERE name = 'y'")
    with State(path, now=lambda: 8.0) as state:
        assert [key.name for key in state.keys.list()] == ["z", "a"]
        assert [session.name for session in state.sessions.list()] == ["z", "y", "a"]
        assert state.decisions.last_account_of("s") == "work"
        state.keys.create("b")
        with pytest.raises(Conflict):
            state.keys.create("Z")
        assert state.keys.get("Z").name == "z"
