import os
import sqlite3
import stat
import subprocess
import sys
from pathlib import Path

import pytest

from tokenferry.errors import CorruptFile, StorageFailed, UnsafeFile
from tokenferry.state import Database, State


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


def test_a_failed_transaction_leaves_nothing(path: Path) -> None:
    database = Database(path)

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
